import sys
from dataclasses import dataclass

import pytest

from lumora.cli import main


@dataclass
class Ended:
    code: int
    out: str
    err: str

    @property
    def told(self):
        """What stands in the standard error, without the frames and line ends that boxes give it."""
        return " ".join(self.err.replace("│", " ").split())


@pytest.fixture
def lumora(monkeypatch, capsys):
    """Run the program in this process: `lumora("inspect", "timm/resnet18").out`."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["lumora", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return Ended(end.value.code, captured.out, captured.err)

    return run
