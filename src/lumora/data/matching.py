"""Data opened for a model that knows its labels already: the classes of both are matched by their names."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lumora.data.label_files import LabelList
from lumora.data.labels import IGNORE, Labels, listed, same_text
from lumora.data.layouts import Found, Wishes
from lumora.data.locating import layout_of, read
from lumora.data.mask_values import coding_of
from lumora.data.sample import Sample, Source, Target
from lumora.data.sources import source_of
from lumora.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

_VALUES = 65_536
"""Numbers that masks can hold."""


def open_for(known: LabelList, data: Any, wishes: Wishes) -> tuple[Source, bool]:
    """Open data to measure a model on them that knows these labels; also tell whether the data are divided themselves.

    The source has the data's own labels where the data name them; `renumbered` then matches them. Where they do not,
    their numbers are taken for those of `known`.
    """
    chosen, place = layout_of(data, wishes)
    found = read(data, chosen, place, wishes)
    notes: tuple[str, ...] = ()
    if wishes.labels is None and found.labels is None and (wanted := _list_for(known, found, wishes)):
        wishes = dataclasses.replace(wishes, labels=wanted)
        if found.task == "segmentation":
            names = listed(known.labels.names)
            notes = (f"The masks do not name their classes; their numbers are taken for the model's: {names}.",)
    source = source_of(data, chosen, found, wishes)
    return dataclasses.replace(source, notes=(*source.notes, *notes)), None not in found.parts


def _list_for(known: LabelList, found: Found, wishes: Wishes) -> LabelList | None:
    """The list to read data with that have none; None where the names that they give themselves can be matched."""
    names = known.labels.names
    if found.task == "segmentation":
        try:
            guessed = coding_of(found, wishes)[0].names
        except DataError:  # what cannot be guessed may be known
            return known
        return None if set(guessed) <= set(names) else known
    written = {same_text(str(label)) for items in found.parts.values() for item in items for label in _each(item.label)}
    unknown = sorted(written - set(names))
    if unknown and all(name.isdecimal() for name in written):
        return known
    # One class alone would be refused: there is nothing to learn from it. To be measured it is enough.
    return LabelList(Labels((*names, *unknown))) if len(written) == 1 else None


def _each(label: object) -> Iterable[object]:
    return label if isinstance(label, tuple) else () if label is None else (label,)


# --- the same classes under other numbers -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Renumbered:
    """A sample whose classes have the numbers that a model gives them."""

    sample: Sample
    ids: tuple[int | None, ...]
    """Of each of the data's classes, its number for the model; None for one that it does not know."""
    labels: Labels
    """The model's."""

    @property
    def key(self) -> str:
        """The sample's own."""
        return self.sample.key

    @property
    def path(self) -> Path | None:
        """The sample's own."""
        return self.sample.path

    @property
    def target(self) -> Target:
        """The class's id, or ids; classes that the model does not know are left out."""
        target = self.sample.target
        if isinstance(target, int):
            return self.ids[target]
        return None if target is None else tuple(sorted(i for old in target if (i := self.ids[old]) is not None))

    def picture(self) -> Tensor:
        """The sample's own."""
        return self.sample.picture()

    def mask(self) -> Tensor | None:
        """The mask in the model's numbers; nothing counts where it does not know the class."""
        mask = self.sample.mask()
        if mask is None:
            return None
        table = torch.full((_VALUES,), self.labels.ignore, dtype=torch.int32)
        table[: len(self.ids)] = torch.tensor([self.labels.ignore if i is None else i for i in self.ids])
        renumbered = table[mask.long()]
        return renumbered.to(torch.uint8) if len(self.labels) <= IGNORE else renumbered


def renumbered(
    samples: Sequence[Sample], theirs: Labels, labels: Labels, *, leave_out: bool = False
) -> tuple[Sequence[Sample], tuple[str, ...]]:
    """Samples with the numbers that their classes have in `labels`, and notes; an error if there are other classes.

    Args:
        samples: of one split of the data.
        theirs: the data's labels.
        labels: the model's.
        leave_out: measure without classes that the model does not know.

    >>> from lumora.data.labels import Labels
    >>> renumbered([], Labels(("cat", "wolf")), Labels(("cat", "dog")))
    Traceback (most recent call last):
    lumora.errors.DataError: The data have 1 class that the model does not know: 'wolf'. It knows 'cat', 'dog'. ...
    """
    if theirs.names == labels.names:
        return samples, ()
    own = labels.label2id
    ids = tuple(own.get(name) for name in theirs.names)
    unknown = [name for name in theirs.names if name not in own]
    if unknown and not leave_out:
        raise DataError(_refused(unknown, labels))
    changed: list[Sample] = [Renumbered(sample, ids, labels) for sample in samples]
    kept = [one for one, sample in zip(changed, samples, strict=True) if one.target is not None or not _known(sample)]
    if not unknown:
        return kept, ()
    left = len(samples) - len(kept)
    what = (
        f"{left:,} picture{'s were' if left > 1 else ' was'} left out" if left else "what is labelled so counts nowhere"
    )
    return kept, (f"The model does not know {listed(unknown)}: {what}.",)


def _known(sample: Sample) -> bool:
    return isinstance(sample.target, int)


def _refused(unknown: Sequence[str], labels: Labels) -> str:
    are = "class" if len(unknown) == 1 else "classes"
    near = {name: difflib.get_close_matches(name, labels.names, n=1, cutoff=0.6) for name in unknown}
    hints = [f"For {name!r}, did you mean {found[0]!r}?" for name, found in near.items() if found][:3]
    return " ".join(
        [
            f"The data have {len(unknown):,} {are} that the model does not know: {listed(unknown)}. It knows "
            f"{listed(labels.names)}.",
            *hints,
            "Rename them in the data, say what the numbers mean with labels=[…] (--labels), or measure without them: "
            "leave_out_unknown=True (--leave-out-unknown).",
        ]
    )
