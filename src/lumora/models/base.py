"""A pretrained model, ready to be adapted, with everything that has to be known of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from torch import nn

from lumora.errors import LumoraError
from lumora.lora.targets import default_targets
from lumora.models import assembly, facts, libraries, names
from lumora.models.assembly import Built, HeadChoice, TaskName, Wish
from lumora.models.features import Features, find_features
from lumora.models.fingerprint import fingerprint
from lumora.models.heads import WIDTH, OnBackbone
from lumora.models.preprocessing import Preprocessing
from lumora.models.targets import every_layer, reached

Targets = list[str] | str


@dataclass(frozen=True, eq=False)
class Base:
    """A model before adaptation: `get_peft_model(base.module, LoraConfig(...))` adapts it.

    The head that maps features to labels is in `module`, fresh; `heads` are the paths for `modules_to_save`.
    """

    name: str
    library: names.Library | Literal["module", "keras"]
    """Who made it; "module" for one that was given ready."""
    module: nn.Module
    task: TaskName | None
    num_labels: int | None
    preprocessing: Preprocessing
    heads: tuple[str, ...]
    """Where the head is; empty without a task."""
    targets: Targets
    """What recipes adapt: every linear layer and every ungrouped convolution outside the head."""
    usual_targets: Targets | None
    """What is usually adapted in this architecture, as `LoraConfig(target_modules=None)` has it; None for unknown."""
    fingerprint: str | None
    """Of the weights without the head, see `lumora.models.fingerprint`; None without weights."""
    licence: str | None
    source: str | None
    """Where the weights come from."""
    notes: tuple[str, ...] = ()
    """What was asked for and cannot be had, or is otherwise than usual."""

    @cached_property
    def features(self) -> Features:
        """Feature maps and pooled features of pictures; adapters in the module count.

        Asking for it the first time runs the model once on an empty picture.
        """
        inside = self.module.backbone if isinstance(self.module, OnBackbone) else self.module
        found = find_features(inside, self.preprocessing.usual_size)
        if isinstance(self.module, OnBackbone):
            return dataclasses.replace(found, reader=self.module.reader)
        classifier = None
        if self.task in ("classification", "multilabel") and self.heads:
            classifier = self.heads[0]
        return dataclasses.replace(found, model=self.module, classifier=classifier)


def load_base(
    name: str | nn.Module = names.EMBEDDED,
    *,
    task: TaskName | None = None,
    num_labels: int | None = None,
    labels: Sequence[str] | None = None,
    head: HeadChoice = "auto",
    heads: Sequence[str] | None = None,
    width: int = WIDTH,
    drop_path: float = 0.0,
    preprocessing: Preprocessing | None = None,
    meta: bool = False,
) -> Base:
    """Return the base of a name, with a fresh head for your labels.

    Args:
        name: one of the names in `lumora.models.names`, or a ready module.
        task: what the head is for; without it the model stays as its checkpoint has it.
        num_labels: how many labels; counted from `labels` if these are given.
        labels: their names. A model of transformers keeps them in its configuration, and keeps a head that was trained
            for these very names.
        head: of a segmentation, the model's "own" head, our "light" one (`MultiScaleHead`) on its feature maps, or
            "auto": its own where it has a light one or was trained with one.
        heads: of a ready module, the paths of its head, which is left as it is.
        width: of the light head.
        drop_path: how often a block is left out in training, where the architecture can.
        preprocessing: instead of what the checkpoint brings.
        meta: only the structure. No weights are fetched and there is no fingerprint.

    >>> base = load_base("lumora/efficientnet-lite0", task="classification", num_labels=3)
    >>> base.heads, base.preprocessing.size, base.licence
    (('classifier',), (224, 224), 'apache-2.0')
    """
    num_labels = _count(task, num_labels, labels)
    known = facts.of_module(name) if isinstance(name, nn.Module) else facts.facts(name)
    known = dataclasses.replace(known, preprocessing=preprocessing or known.preprocessing)
    wish = Wish(
        task=task,
        num_labels=num_labels or 0,
        labels=None if labels is None else tuple(labels),
        head=head,
        heads=None if heads is None else tuple(heads),
        width=width,
        drop_path=drop_path,
        size=known.preprocessing.usual_size,
        meta=meta,
    )
    built = assembly.of_module(name, wish) if isinstance(name, nn.Module) else assembly.of_name(name, wish)
    return _base(name, known, wish, built)


def fetch_base(name: str) -> None:
    """Have the files here that `load_base` reads of a name: what is not in the cache is downloaded.

    Nothing is built. Files that a library finds by ways of its own (timm's older weights) are left to it.
    """
    facts.facts(name)
    libraries.fetch_weights(names.parse(name))


def _count(task: TaskName | None, num_labels: int | None, labels: Sequence[str] | None) -> int | None:
    """How many labels; refused where that cannot be."""
    if labels is not None and num_labels not in (None, len(labels)):
        raise LumoraError(f"num_labels is {num_labels}, but there are {len(labels)} labels.")
    counted = len(labels) if labels is not None else num_labels
    if task is not None and (counted is None or counted < 1):
        raise LumoraError(f"A head for {task} needs the number of labels: num_labels=10, or labels=['cat', 'dog'].")
    return counted


def _base(name: str | nn.Module, known: facts.Facts, wish: Wish, built: Built) -> Base:
    """What was built, with all that is known of it."""
    module = built.module.eval()
    return Base(
        name=type(name).__name__ if isinstance(name, nn.Module) else name,
        library="module" if isinstance(name, nn.Module) else names.parse(name).library,
        module=module,
        task=wish.task,
        num_labels=wish.num_labels if wish.task is not None else None,
        preprocessing=known.preprocessing,
        heads=built.heads,
        targets=every_layer(module, built.heads, reached(module, wish.size)),
        usual_targets=default_targets(module),
        fingerprint=fingerprint(module, built.heads or built.output_layers),
        licence=known.licence,
        source=known.source,
        notes=(*known.preprocessing.notes, *built.notes),
    )
