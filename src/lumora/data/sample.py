"""One picture with its label or mask, and where a task's samples come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from lumora.data.labels import Labels
from lumora.data.masks import Coding
from lumora.data.reading import Limits, read_mask, read_picture

if TYPE_CHECKING:
    from torch import Tensor

    from lumora.data.content import Content

TaskName = Literal["classification", "multilabel", "segmentation"]
Target = int | tuple[int, ...] | None


class Sample(Protocol):
    """One picture with its label or mask, read on demand."""

    @property
    def key(self) -> str:
        """A name that is unique and stable in its source: the relative path, for files."""
        ...

    @property
    def target(self) -> Target:
        """The class's id, or ids if there may be several; None for segmentation and unlabelled pictures."""
        ...

    @property
    def path(self) -> Path | None:
        """The picture's file, if it is one."""
        ...

    def picture(self) -> Tensor:
        """The picture as `uint8` (3, H, W) in RGB, the right way up."""
        ...

    def mask(self) -> Tensor | None:
        """Class ids (H, W) of the same size and orientation, or None without a mask.

        `uint8`, and `int32` above 255 classes; where nothing counts, `Labels.ignore` (up to 255 classes: `IGNORE`).
        """
        ...


@dataclass(frozen=True)
class StoredSample:
    """A sample whose picture and mask lie encoded somewhere: in files, archives or tables."""

    key: str
    content: Content
    target: Target = None
    mask_content: Content | None = None
    coding: Coding | None = None
    """What the mask's values mean."""
    limits: Limits = field(default_factory=Limits, repr=False)

    @property
    def path(self) -> Path | None:
        """The picture's file, if it is one."""
        return self.content.path

    def picture(self) -> Tensor:
        """The picture as `uint8` (3, H, W) in RGB, the right way up. Reads and decodes it each time."""
        return read_picture(self.content, limits=self.limits)

    def mask(self) -> Tensor | None:
        """The class ids (H, W), turned as the picture is. Reads and decodes the mask, and the picture's header."""
        if self.mask_content is None or self.coding is None:
            return None
        return read_mask(self.mask_content, self.coding, picture=self.content, limits=self.limits)


@dataclass(frozen=True)
class Source:
    """Where samples come from, and what they are samples of."""

    task: TaskName
    labels: Labels
    splits: Mapping[str, Sequence[Sample]]
    """`"train"`, `"validation"`, `"test"`: those that exist."""
    layout: str
    """What was found, in words."""
    notes: tuple[str, ...] = ()
    """What one should know: what was guessed, what was left out, and how to say otherwise."""
    corrected: str | None = None
    """What is not as the data have it but as somebody has corrected it, in words; see `lumora.data.corrections`."""
