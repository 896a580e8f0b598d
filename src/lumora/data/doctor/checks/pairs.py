"""Pictures without their masks, masks without their pictures, and files that belong to nothing."""

from __future__ import annotations

from collections.abc import Iterator

from lumora.data.doctor.examined import Examined
from lumora.data.doctor.report import Finding
from lumora.data.labels import counted


def pairs(examined: Examined) -> Iterator[Finding]:
    """What has no partner, and what has no part in the samples."""
    data = examined.data
    absent = [i for i, record in enumerate(data.records) if record.mask is None and data.task == "segmentation"]
    if alone := (*data.pictures_alone, *examined.names(absent)):
        # In Pascal VOC's layout most pictures have none, on purpose.
        severity = "note" if "VOC" in data.layout else "warning"
        yield Finding(
            "mask-missing",
            severity,
            f"{counted(len(alone), 'picture')} without a mask, left out.",
            "Add masks of the same names, or take the pictures away.",
            alone,
        )
    if data.masks_alone:
        yield Finding(
            "picture-missing",
            "warning",
            f"{counted(len(data.masks_alone), 'mask')} without a picture, left out.",
            "Add pictures of the same names, or take the masks away.",
            data.masks_alone,
        )
    if data.left_out:
        yield Finding(
            "left-out",
            "note",
            f"{counted(len(data.left_out), 'picture file')} of no sample.",
            "If they should, put them where the others lie (see the notes on how the data were read).",
            data.left_out,
        )
    if data.task in ("classification", "multilabel"):
        bare = [i for i, record in enumerate(data.records) if not record.labels]
        if bare and data.task == "classification":
            yield Finding(
                "label-missing",
                "warning",
                f"{counted(len(bare), 'picture')} without a label; nothing is learnt from them.",
                "Label them, or take them away.",
                examined.names(bare),
            )
