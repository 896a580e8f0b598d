"""Code that goes on from a run, ready to be copied."""

from __future__ import annotations

import shlex

from lumora.training.report.subject import Subject


def again(subject: Subject) -> str | None:
    """The code that trains the same once more; None where the training was not Lumora's own."""
    if not _is_own(subject):
        return None
    needed = _at_hand(subject)
    given = [f"{name}={name}" for name in needed]
    given += [f"recipe={subject.folder.recipe.as_posix()!r}", f"out={subject.folder.path.as_posix() + '-again'!r}"]
    return f"import lumora\n\n{_said(needed)}run = lumora.finetune({', '.join(given)})\n"


def again_by_command(subject: Subject) -> str | None:
    """The command that does the same; None where something was at hand in Python only."""
    if _at_hand(subject) or not _is_own(subject):
        return None
    recipe, out = subject.folder.recipe.as_posix(), subject.folder.path.as_posix() + "-again"
    return f"lumora train {shlex.quote(recipe)} --out {shlex.quote(out)}\n"


def predict_by_command(subject: Subject) -> str | None:
    """The command that predicts; None where the base is at hand in Python only."""
    if subject.about.base.is_nameless:
        return None
    return f"lumora predict {shlex.quote(subject.folder.bundle.as_posix())} PICTURES --out predictions\n"


def report_again(subject: Subject) -> str | None:
    """The code that writes the report once more; None where the training was not Lumora's own."""
    if not _is_own(subject):
        return None
    needed = _at_hand(subject)
    given = [repr(subject.folder.path.as_posix()), *(f"{name}={name}" for name in needed)]
    return f"from lumora.training import write_report\n\n{_said(needed)}write_report({', '.join(given)})\n"


def _is_own(subject: Subject) -> bool:
    """Whether the training was Lumora's own, which a recipe repeats."""
    return subject.folder.recipe.is_file()


def _at_hand(subject: Subject) -> list[str]:
    """What has to be given again, since no name leads to it."""
    needed = ["data"] if subject.recipe.data.path is None else []
    return [*needed, "base"] if subject.about.base.is_nameless else needed


def _said(needed: list[str]) -> str:
    told = {"data": "data = ...  # the data as they were given\n", "base": "base = ...  # the model before training\n"}
    return "".join(told[name] for name in needed)
