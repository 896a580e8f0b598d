import socket
import subprocess
import sys

import pytest


def test_studio__is_misused_with_a_file_for_its_runs(lumora, tmp_path):
    (tmp_path / "file").write_text("")
    ended = lumora("studio", "--runs", tmp_path / "file")
    assert ended.code == 2
    assert "is a file; name a folder" in ended.err


@pytest.mark.slow
def test_studio__says_that_its_port_is_taken(lumora, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = lumora("studio", "--runs", tmp_path, "--port", taken.getsockname()[1], "--no-open")
    assert ended.code == 2
    assert "is taken on 127.0.0.1" in " ".join(ended.err.split())


def test_studio__says_what_to_install_where_gradio_lacks(tmp_path):
    code = (
        "import sys, importlib.util as u\n"
        "real = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'gradio' else real(name, *a)\n"
        "sys.argv = ['lumora', 'studio', '--no-open']\n"
        "from lumora.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'lumora[studio]'" in done.stderr
