"""What a person sees in a terminal: a real one, of 60 columns."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

PATH = "      a/rather/long/path/of/a/file/that/is/wider/than/the/terminal.png"
PROGRAM = f"""
PATH = {PATH.strip()!r}
from lumora.cli import output
output.heading("Errors", "red")
output.item("kind: " + "word " * 20, ["advice " * 20], [PATH])
row = ["blocks.0.attention", "2304 × 768 × 3 × 3 … 768 × 768 × 3 × 3", "21,261,312"]
output.table(["module", "weight", "parameters"], [row], numbers=["parameters"])
"""


def shown(**environment):
    """What the program writes into a terminal."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    kept = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS", "LINES")}
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=end, env={**kept, "TERM": "xterm", **environment}):
        os.close(end)
        text = b""
        while part := _read(terminal):
            text += part
    os.close(terminal)
    return text.decode().replace("\r\n", "\n")


def _read(terminal):
    try:
        return os.read(terminal, 4096)
    except OSError:  # how Linux tells that the other end is closed
        return b""


def test_heading__is_coloured_unless_no_color_is_set():
    assert "\x1b[31m" in shown()
    assert "\x1b[31m" not in shown(NO_COLOR="1")
    assert "\nErrors\n" in shown(NO_COLOR="1")


def test_item__breaks_sentences_at_the_terminals_width_and_paths_never():
    sentences, path, _ = shown(NO_COLOR="1").partition(PATH + "\n")
    assert path
    assert max(map(len, sentences.splitlines())) <= 60
    assert sentences.split().count("advice") == 20


def test_table__never_breaks_a_number():
    assert "21,261,312" in shown()


def test_item__is_one_line_where_no_one_looks(capsys):
    from lumora.cli import output

    output.item("word " * 30, ["advice " * 30], ["file.png"])
    assert len(capsys.readouterr().out.splitlines()) == 4
