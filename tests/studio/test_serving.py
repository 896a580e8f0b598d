"""The studio as a process, asked by a real client."""

import http.client
import signal
import socket
from urllib.parse import urlsplit

import pytest

from lumora.errors import OutputError
from lumora.studio.serving import _listening

pytestmark = pytest.mark.slow


def asked(address, headers, path="/", method="GET"):
    place = urlsplit(address)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=60)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    answer.read()
    return answer


def test_studio__answers_this_machine_and_its_own_page_only(studio):
    address = studio().address
    port = urlsplit(address).port
    good = asked(address, {})
    assert good.status == 200
    assert "default-src 'self'" in good.headers["content-security-policy"]
    assert asked(address, {"Host": f"localhost:{port}"}).status == 200
    assert asked(address, {"Origin": address}).status == 200
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        assert asked(address, headers).status == 403
        assert asked(address, headers, "/gradio_api/queue/join", "POST").status == 403
    for site, status in (("none", 200), ("same-origin", 200), ("same-site", 403), ("cross-site", 403)):
        assert asked(address, {"Sec-Fetch-Site": site}, "/config").status == status
        assert asked(address, {"Sec-Fetch-Site": site}).status == 200  # a link to the page may be anywhere


def test_studio__listens_on_no_other_address(studio):
    port = urlsplit(studio().address).port
    with pytest.raises(OSError), socket.create_connection((_address_of_this_machine(), port), timeout=10):
        raise AssertionError("it answered")


def test_studio__ends_when_asked_to_and_leaves_nothing_behind(studio, tmp_path):
    place = tmp_path / "temporary"
    place.mkdir()
    running = studio(TMPDIR=str(place))
    [scratch] = place.glob("lumora-studio-*")
    (scratch / "uploaded.png").write_bytes(b"a picture")
    assert running.stop() in (0, -15)
    assert list(place.glob("lumora-studio-*")) == []


def test_studio__ends_with_ctrl_c(studio):
    process = studio().process
    process.send_signal(signal.SIGINT)
    assert process.wait(60) in (0, 130)


def test_listening__says_that_a_port_is_taken():
    with _listening(0) as taken, pytest.raises(OutputError, match=r"port \d+ is taken on 127.0.0.1"):
        _listening(taken.getsockname()[1])


def _address_of_this_machine():
    """Another address of this machine than 127.0.0.1; any other one of the loopback is one."""
    return "127.0.0.2"
