"""The program in a process of its own: in a terminal, or with its output in pipes."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios

PROGRAM = [sys.executable, "-c", "from lumora.cli import main; main()"]


def environment(**changes):
    """This process's environment without what decides how terminals are written to."""
    decides = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TERM")
    kept = {key: value for key, value in os.environ.items() if key not in decides}
    return {**kept, "TERM": "xterm", "OMP_NUM_THREADS": "1", **changes}


def _as_in_the_foreground():
    """Heed signals that a shell lets the tests ignore, where they run in the background."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _in_a_session():
    _as_in_the_foreground()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def started(*arguments):
    """The program, which was just started."""
    return subprocess.Popen(
        [*PROGRAM, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        preexec_fn=_as_in_the_foreground,
    )


class InTerminal:
    """The program in a terminal of 80 columns and 24 lines."""

    def __init__(self, *arguments, **changes):
        self._terminal, end = pty.openpty()
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.process = subprocess.Popen(
            [*PROGRAM, *map(str, arguments)],
            stdin=end,
            stdout=end,
            stderr=end,
            env=environment(**changes),
            start_new_session=True,
            preexec_fn=_in_a_session,
        )
        os.close(end)
        self.text = ""

    def until(self, text=None):
        """Read what is written until some text has come, or to the end."""
        while text is None or text not in self.text:
            try:
                part = os.read(self._terminal, 4096)
            except OSError:  # how Linux tells that the other end is closed
                part = b""
            if not part:
                assert text is None, self.text
                break
            self.text += part.decode(errors="replace")
        return self.text

    def press(self, key):
        """Press a key."""
        os.write(self._terminal, key)

    def end(self):
        """Read to the end; return the exit code."""
        self.until()
        os.close(self._terminal)
        return self.process.wait()
