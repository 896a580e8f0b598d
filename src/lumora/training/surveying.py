"""Looking at data, base and machine, to know what to choose for them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch

from lumora.data import Sample, Source, StoredSample, read_header
from lumora.data.places import cache_home
from lumora.errors import DataError, LumoraError
from lumora.models import Base, load_base
from lumora.models.assembly import HeadChoice
from lumora.training.choosing import Chosen, resolve
from lumora.training.facts import BaseFacts, Facts, Machine
from lumora.training.inheriting import inherited
from lumora.training.ready import Ready
from lumora.training.recipe import Recipe
from lumora.training.rules.model import EMBEDDED
from lumora.training.several import processes_on_this_machine

_LOOKED_AT = 64
"""Pictures whose size is read."""


def chosen_for(asked: Recipe, source: Source, device: torch.device, given: Ready | None = None) -> tuple[Chosen, Facts]:
    """A recipe without gaps for these data, this base and this machine, and what was found out to fill them.

    Reads some pictures' headers; fetches no weights.
    """
    before = inherited(asked, source)
    name = asked.base.name or before.base.name or EMBEDDED
    facts = _survey(source, name, asked.base.head or before.base.head or "auto", device, given)
    return resolve(asked, facts, before), facts


def _survey(source: Source, name: str, head: HeadChoice, device: torch.device, given: Ready | None) -> Facts:
    train = source.splits.get("train", ())
    if not len(train):
        raise DataError(
            f"There is nothing to learn from: the data have {', '.join(source.splits) or 'no split'} and no pictures "
            "in train. Name the folder that holds the training pictures."
        )
    _check_names(source)
    validation = source.splits.get("validation", ())
    return Facts(
        task=source.task,
        pictures_train=len(train),
        pictures_validation=len(validation),
        class_names=source.labels.names,
        picture_size=typical_size(train),
        base=_base_facts(source, name, head, given),
        machine=machine_facts(device),
        class_counts=_class_counts(source, train),
    )


def _check_names(source: Source) -> None:
    """Refuse classes whose names no bundle could hold, before anything is learnt."""
    for name in source.labels.names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"The class {name!a} has a name that is no text: its bytes are not UTF-8, and a bundle could not hold "
                "it. Rename its folder, or the class where the data name it."
            ) from None


def typical_size(samples: Sequence[Sample]) -> tuple[int, int]:
    """The median height and the median width of some of the pictures."""
    step = max(1, len(samples) // _LOOKED_AT)
    sizes = [size_of(samples[i]) for i in range(0, len(samples), step)]
    heights, widths = zip(*sizes, strict=True)
    return int(median(heights)), int(median(widths))


def _base_facts(source: Source, name: str, head: HeadChoice, given: Ready | None) -> BaseFacts:
    """What has to be known of a base, from its structure alone; of one that was given, from a copy."""
    base = load_base(
        name if given is None else given.copy(),
        task=source.task,
        labels=source.labels.names,
        head=head,
        preprocessing=None if given is None else given.preprocessing,
        meta=True,
    )
    return BaseFacts(
        name=name,
        size=base.preprocessing.usual_size,
        parameters=sum(parameter.numel() for parameter in base.module.parameters()),
        usual_targets=base.usual_targets is not None,
        multi_scale=_is_multi_scale(base),
    )


def _is_multi_scale(base: Base) -> bool:
    try:
        return len(set(base.features.strides)) > 1
    except LumoraError:  # a model of one's own may have no feature maps at all
        return False


def machine_facts(device: torch.device) -> Machine:
    """What has to be known of this machine, beside other programs that run on it."""
    on_gpu = device.type == "cuda"
    return Machine(
        cores=_cores(),
        memory=_free_memory(),
        device="cuda" if on_gpu else "cpu",
        device_memory=torch.cuda.get_device_properties(device).total_memory if on_gpu else None,
        bf16=on_gpu and torch.cuda.is_bf16_supported(including_emulation=False),
        disk=free_disk(cache_home()),
        processes=processes_on_this_machine(),
    )


def size_of(sample: Sample) -> tuple[int, int]:
    """Height and width of a picture, of a file from its head alone."""
    if isinstance(sample, StoredSample):
        return read_header(sample.content, limits=sample.limits).shown
    height, width = sample.picture().shape[-2:]
    return int(height), int(width)


def _class_counts(source: Source, samples: Sequence[Sample]) -> tuple[int, ...]:
    """Pictures of each class; not counted for segmentation, where that would read every mask."""
    if source.task == "segmentation":
        return ()
    counts = [0] * len(source.labels)
    for sample in samples:
        for i in sample.target if isinstance(sample.target, tuple) else (sample.target,):
            if i is not None:
                counts[i] += 1
    return tuple(counts)


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _free_memory() -> int:
    """Bytes that programs can still have: what the system says, and no more than a container may."""
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 8 * 2**30
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and (text := limit.read_text().strip()) != "max":
        free = min(free, max(0, int(text) - int(used.read_text())))
    return free


def free_disk(folder: Path) -> int:
    """Free bytes where a folder is or would be."""
    while not os.access(folder, os.F_OK):  # nor what this user cannot reach
        folder = folder.parent
    return shutil.disk_usage(folder).free
