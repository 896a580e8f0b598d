"""Trainings as processes of their own, which outlive the page: begun, found again, stopped, gone on with.

A training is `lumora train` or `lumora resume` in its own session. What it says goes to a file in `RUNS/.studio`; all
else is read from the run's folder, so that a page that is opened later finds everything, whoever began the training.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lumora.data.durable import make_folder, write_file
from lumora.data.locks import is_held
from lumora.errors import RunError
from lumora.paths import at_home
from lumora.studio.found import run_folders
from lumora.training.folder import RunFolder

State = Literal["starting", "running", "stopped", "unbegun", "done", "failed"]
WORDS: dict[State, str] = {
    "starting": "is starting",
    "running": "is running",
    "stopped": "was stopped; it can be gone on with",
    "unbegun": "was stopped; nothing was written yet, and it can be started again",
    "done": "is done",
    "failed": "has failed",
}
_LOCK = ".lock"
_HOLDER = re.compile(r"process (\d+) on (.+)")
_SAID = 40
"""Lines of what a training said that are shown."""
_TAIL = 16_384
"""Bytes of it that are read."""
_IN_FOLDER = re.compile(r"(run|epoch|ended)\b")
"""Begins what a training says of its folder and of what it learns there."""
_CALLED = "$ lumora "
"""Begins the line that says what was called, before what that said."""


@dataclass(frozen=True)
class Training:
    """A training as far as its files tell."""

    folder: Path
    state: State
    said: tuple[str, ...]
    """The last lines that it has written for people."""

    @property
    def name(self) -> str:
        """What people call it."""
        return self.folder.name

    @property
    def runs(self) -> bool:
        """Whether its process is at work."""
        return self.state in ("starting", "running")


class Trainings:
    """The trainings in a folder.

    Args:
        runs: where their folders lie.
    """

    def __init__(self, runs: Path) -> None:
        self.root = runs
        self._children: dict[Path, subprocess.Popen[bytes]] = {}
        self._asked: dict[Path, str] = {}
        """The processes that were asked to stop: asked once more, they would end at once and save nothing.

        The notes have them too, for whoever opens the page later.
        """

    # --- found --------------------------------------------------------------------------------------------------------

    def all(self) -> list[Training]:
        """Every training, those begun last first; those that never got a folder of their own are there too.

        Those whose folder was removed are not.
        """
        begun = {folder: _changed(RunFolder(folder).recipe) for folder in run_folders(self.root)}
        for note in self._notes().glob("*.json"):
            folder = self.root / _place(note.stem)
            if folder not in begun and not self._was_removed(folder) and not self._is_elsewhere(folder):
                begun[folder] = _changed(note)
        return [self.of(folder) for folder in sorted(begun, key=lambda folder: -begun[folder])]

    def of(self, folder: Path) -> Training:
        """One of them."""
        return Training(folder, self._state(folder), _last_lines(self._console(folder)))

    def _state(self, folder: Path) -> State:
        if worker(folder) is not None:
            return "running"
        if self._is_starting(folder):
            return "starting"
        run = RunFolder(folder)
        if run.bundle.is_dir():
            return "done"
        if _has_failed(_last_lines(self._console(folder))):
            return "failed"
        if run.recipe.is_file():
            return "stopped"
        return "unbegun" if self._noted(folder).get("stopped") else "failed"

    def _was_removed(self, folder: Path) -> bool:
        """Whether it once had a folder, by what it said, and has none any more."""
        return not folder.exists() and not self._is_starting(folder) and _had_folder(_last_lines(self._console(folder)))

    def _is_elsewhere(self, folder: Path) -> bool:
        """Whether it was begun elsewhere and only stopped from here, so that its folder alone tells of it."""
        return self._noted(folder).keys() == {"asked"}

    def _is_starting(self, folder: Path) -> bool:
        """Whether its process is there, but has not come to its folder yet."""
        child = self._children.get(folder)
        if child is not None:
            ends = _holder(folder) == child.pid and not is_held(folder / _LOCK)  # has let go of its folder
            return child.poll() is None and not ends
        noted = self._noted(folder)
        mine = noted.get("host") == socket.gethostname()
        # Once it had its folder, the folder's lock says more.
        return mine and not (folder / _LOCK).exists() and _was_called(noted.get("process"), noted.get("arguments"))

    # --- begun and ended ----------------------------------------------------------------------------------------------

    def begin(self, data: str, settings: dict[str, str], name: str = "") -> Training:
        """Begin a training of data, or by a recipe's file, with these settings; it gets a folder of its own."""
        folder = self._free(name or _name_of(data))
        given = [f"{key}={value}" for key, value in settings.items()]
        arguments = ["train", _absolute(data), "--out", str(folder)]
        self._start(folder, [*arguments, *(part for each in given for part in ("--set", each))])
        return self.of(folder)

    def resume(self, folder: Path) -> Training:
        """Go on with a training that was stopped; one that had written nothing yet is started again."""
        if self.of(folder).runs:
            raise RunError(f"The training {folder.name} is running already.")
        again = self._to_start_again(folder)
        if again is None:
            RunFolder(folder).check_begun()
        self._start(folder, again or ["resume", str(folder)])
        return self.of(folder)

    def can_go_on(self, training: Training) -> bool:
        """Whether `resume` has something to go on with."""
        folder, ended = training.folder, training.state in ("stopped", "unbegun", "failed")
        return ended and (RunFolder(folder).recipe.is_file() or self._to_start_again(folder) is not None)

    def can_be_forgotten(self, training: Training) -> bool:
        """Whether nothing is left of it but what it said."""
        return training.state in ("unbegun", "failed") and not RunFolder(training.folder).recipe.is_file()

    def forget(self, folder: Path) -> None:
        """Take a training that never wrote anything off the list."""
        if not self.can_be_forgotten(self.of(folder)):
            raise RunError(f"The training {folder.name} has a folder, {folder}; remove that where it is not wanted.")
        try:
            for path in (self._note(folder), self._console(folder)):
                path.unlink(missing_ok=True)
            if folder.is_dir() and [path.name for path in folder.iterdir()] in ([], [_LOCK]):
                (folder / _LOCK).unlink(missing_ok=True)
                folder.rmdir()
        except OSError as error:
            raise RunError(f"The training could not be taken off the list: {error.strerror or error}.") from error
        self._children.pop(folder, None)
        self._asked.pop(folder, None)

    def stop(self, folder: Path) -> Training:
        """Ask a training to save what it has learnt and to end, which takes it a moment; it is asked once only."""
        process = self._process(folder)
        if process is None and self._is_starting(folder):
            raise RunError(f"The training {folder.name} is only just starting; stop it in a moment.")
        if process is None:
            raise RunError(f"The training {folder.name} is not running on this machine; there is nothing to stop.")
        if not self._was_asked(folder, process):
            self._note_asked(folder, process)
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        return self.of(folder)

    def is_stopping(self, folder: Path) -> bool:
        """Whether it was asked to stop, and has not ended yet."""
        process = self._process(folder)
        return process is not None and self._was_asked(folder, process) and self.of(folder).runs

    def _process(self, folder: Path) -> int | None:
        """The process that is to be asked to stop."""
        child = self._children.get(folder)
        return worker(folder) or (child.pid if child is not None and child.poll() is None else None)

    def _was_asked(self, folder: Path, process: int) -> bool:
        return _called_for_good(process) in (self._asked.get(folder), self._noted(folder).get("asked"))

    def _note_asked(self, folder: Path, process: int) -> None:
        self._asked[folder] = asked = _called_for_good(process)
        noted = self._noted(folder)
        begun_here = {"stopped": True} if noted and not self._is_elsewhere(folder) else {}
        with contextlib.suppress(OSError):  # whoever opens the page later is told of a failure then
            make_folder(self._notes())
            self._write_note(folder, {**noted, **begun_here, "asked": asked})

    def _start(self, folder: Path, arguments: Sequence[str]) -> None:
        try:
            make_folder(self._notes())
            with self._console(folder).open("ab") as console:
                console.write(f"{_CALLED}{shlex.join(arguments)}\n".encode("utf-8", "surrogateescape"))
                console.flush()
                process = subprocess.Popen(
                    [sys.executable, "-m", "lumora", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C for the page is not for it
                )
            self._children[folder] = process
            self._asked.pop(folder, None)
            note = {"process": process.pid, "host": socket.gethostname(), "arguments": list(arguments)}
            self._write_note(folder, note)
        except OSError as error:
            raise RunError(f"The training could not be started: {error.strerror or error}.") from error

    def _free(self, name: str) -> Path:
        """A folder that is not there, called so or almost so."""
        names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        places = (self.root / each for each in names)
        return next(place for place in places if not place.exists() and not self._console(place).exists())

    def _to_start_again(self, folder: Path) -> list[str] | None:
        """What is to be called to start a training that had written nothing yet; None for others."""
        given = self._noted(folder).get("arguments")
        if RunFolder(folder).recipe.is_file() or not isinstance(given, list) or given[:1] != ["train"]:
            return None
        return [str(each) for each in given]

    def _noted(self, folder: Path) -> dict[str, Any]:
        """What is noted of a training that was begun here."""
        try:
            found = json.loads(self._note(folder).read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write_note(self, folder: Path, note: dict[str, Any]) -> None:
        write_file(self._note(folder), json.dumps(note, indent=2).encode())

    def _note(self, folder: Path) -> Path:
        return self._notes() / f"{self._key(folder)}.json"

    def _notes(self) -> Path:
        return self.root / ".studio"

    def _console(self, folder: Path) -> Path:
        return self._notes() / f"{self._key(folder)}.txt"

    def _key(self, folder: Path) -> str:
        """What the notes of a training are called: the place of its folder, in one name."""
        place = folder.relative_to(self.root).as_posix() if folder.is_relative_to(self.root) else folder.name
        return place.replace("%", "%25").replace("/", "%2F")


def _place(key: str) -> str:
    """Where the folder of a training lies, by what its notes are called."""
    return key.replace("%2F", "/").replace("%25", "%")


def worker(folder: Path) -> int | None:
    """The process that keeps a run's folder now, if it is one of this machine.

    The lock is only tried where that process is there: trying it takes it for a moment, and nobody may be in the way of
    a training that begins.
    """
    process = _holder(folder)
    return process if _is_alive(process) and is_held(folder / _LOCK) else None


def _holder(folder: Path) -> int | None:
    """The process that was the last to keep a run's folder, if it was one of this machine."""
    try:
        found = _HOLDER.fullmatch((folder / _LOCK).read_text(encoding="utf-8", errors="replace").strip())
    except OSError:
        return None
    return int(found[1]) if found is not None and found[2] == socket.gethostname() else None


def _called_for_good(process: int) -> str:
    """What no other process is called: its number may be another one's later, and on another machine is one now."""
    try:
        begun = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        begun = "?"
    return f"process {process} on {socket.gethostname()}, begun at {begun}"


def _is_alive(process: object) -> bool:
    if not isinstance(process, int) or process <= 0:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_defunct(process)


def _was_called(process: Any, arguments: Any) -> bool:
    """Whether a process is there, and was called with these arguments where that can be known.

    Its number may be another one's by now, in a container soon.
    """
    if not _is_alive(process):
        return False
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return True
    given = [os.fsencode(str(each)) for each in arguments or ()]
    return words[len(words) - len(given) :] == given


def _is_defunct(process: int) -> bool:
    """Whether a process has ended, and only its parent has not noticed."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False


def _has_failed(said: Sequence[str]) -> bool:
    """Whether a training that has ended did so by an error, by what it said since it was called last."""
    called = max((i for i, line in enumerate(said) if line.startswith(_CALLED)), default=0)
    return any(line.lower().startswith("error:") for line in said[called:])


def _had_folder(said: Sequence[str]) -> bool:
    """Whether a training came to its folder, by what it said since it was called last."""
    called = max((i for i, line in enumerate(said) if line.startswith(_CALLED)), default=0)
    return any(_IN_FOLDER.match(line) for line in said[called:])


def _last_lines(path: Path) -> tuple[str, ...]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ()
    return tuple(line for line in text.splitlines() if line.strip())[-_SAID:]


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _absolute(data: str) -> str:
    """A path that means the same to whoever goes on with the training from elsewhere."""
    path = at_home(data)
    return str(path.absolute()) if path.exists() else data


def _name_of(data: str) -> str:
    path = Path(data)
    last = path.parent.name if path.name == "recipe.yaml" else path.name
    words = re.findall(r"[\w.-]+", last)
    return "-".join(words).strip(".-") or "training"
