"""What `lumora serve` says of its arguments; that it serves is tested in `tests/serve`."""

import socket

import pytest


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--memory", "much"), "'much' is no size"),
        (("--max-body", "-1MB"), "'-1MB' is no size"),
        (("--formats", "png,gif"), "formats has gif"),
        (("--deadline", "0"), "deadline is 0"),
        (("--host", "0.0.0.0"), "there is no token"),
        (("--token-file", "nowhere"), "nowhere cannot be read"),
        (("--deadline", "inf"), "deadline is inf"),
        (("--device", "nowhere"), "'nowhere' cannot be used here"),
    ],
)
def test_serve__refuses_what_cannot_be(lumora, tmp_path, monkeypatch, arguments, reason):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LUMORA_TOKENS", raising=False)
    ended = lumora("serve", "bundles", *arguments)
    assert (ended.code, reason in ended.err) == (2, True)


def test_serve__refuses_a_file_without_tokens_and_tokens_that_can_be_guessed(lumora, tmp_path):
    (tmp_path / "none").write_text("# nobody yet\n\n")
    assert "There is no token in" in lumora("serve", "bundles", "--token-file", tmp_path / "none").err
    (tmp_path / "short").write_text("abc\n")
    assert "fewer than 8" in lumora("serve", "bundles", "--token-file", tmp_path / "short").err


def test_serve__says_what_is_no_bundle(lumora, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    ended = lumora("serve", "empty")
    assert (ended.code, "There is no bundle in empty" in ended.err) == (1, True)
    ended = lumora("serve", "no such thing")
    assert (ended.code, "neither a folder here nor the name of a repository" in ended.err) == (1, True)


@pytest.mark.parametrize(
    ("host", "port", "advice"),
    [
        ("127.0.0.1", None, "Choose another port (--port), or end what uses it."),
        ("192.0.2.1", 0, "Name an address of this machine (--host)."),
        ("no such host", 0, "Name an address of this machine (--host)."),
    ],
)
def test_serve__says_what_to_do_where_it_cannot_listen(lumora, tmp_path, monkeypatch, host, port, advice):
    monkeypatch.setenv("LUMORA_TOKENS", "token-of-users")
    (tmp_path / "lumora.json").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1] if port is None else port
        ended = lumora("serve", tmp_path, "--host", host, "--port", port)
    assert (ended.code, advice in ended.told) == (1, True)
    assert ended.told.count("--") == 1
