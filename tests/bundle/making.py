"""Small bundles of every kind of base. Nothing is trained: what would be trained is filled with numbers."""

import copy
import dataclasses

import timm
import torch
from tests.tiny_models import save_segformer, save_vit
from torch import nn

from lumora.bundle import About, BaseReference
from lumora.bundle.about import installed_versions
from lumora.data import Labels
from lumora.lora import LoraConfig, get_peft_model
from lumora.models import Preprocessing, load_base
from lumora.tasks.base import logits_of

LABELS = ("red fox", "otter", "owl")


class Pyramid(nn.Module):
    """A model of one's own, with a batch norm."""

    def __init__(self, labels=3):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.BatchNorm2d(8), nn.ReLU())
        self.down = nn.Sequential(nn.Conv2d(8, 12, 2, stride=2), nn.ReLU())
        self.last = nn.Sequential(nn.Conv2d(12, 16, 2, stride=2), nn.ReLU())
        self.score = nn.Linear(16, labels)

    def forward(self, x):
        return self.score(self.last(self.down(self.stem(x))).mean((2, 3)))


def pyramid(labels=7):
    """One with the same weights at every call."""
    torch.manual_seed(5)
    return Pyramid(labels)


def save_timm(folder, seed=0):
    """What timm writes for the Hub."""
    torch.manual_seed(seed)
    model = timm.create_model("lcnet_035", num_classes=4)
    timm.models.save_for_hf(model, folder, safe_serialization=True)
    return folder


KINDS = {
    "embedded": (lambda folder: None, "classification", 96),
    "embedded-light": (lambda folder: None, "segmentation", 64),
    "embedded-multilabel": (lambda folder: None, "multilabel", 64),
    "vit": (lambda folder: save_vit(folder, seed=1), "classification", 32),
    "vit-light": (lambda folder: save_vit(folder, seed=1), "segmentation", 32),
    "segformer": (lambda folder: save_segformer(folder, seed=2, side=64), "segmentation", 64),
    "timm": (save_timm, "classification", 64),
    "timm-light": (save_timm, "segmentation", 64),
}
"""What saves the base (None: the embedded one), the task, and the side of pictures."""


def base_of(kind, folder):
    """The base of a kind, and the side of its pictures."""
    save, task, side = KINDS[kind]
    place = save(folder)
    given = {} if place is None else {"name": str(place)}
    return load_base(**given, task=task, labels=LABELS), side


def ready_base(model=None, task="classification"):
    """The base of a ready module."""
    preprocessing = Preprocessing(resize=(64, 64))
    return load_base(model or pyramid(), task=task, labels=LABELS, preprocessing=preprocessing)


def about_of(base, side, method="lora", **changes):
    """What is to be said of a bundle on a base."""
    about = About(
        task=base.task,
        labels=Labels(LABELS, ((255, 0, 0), (0, 255, 0), (0, 0, 255))),
        preprocessing=base.preprocessing,
        size=(side, side),
        base=BaseReference.of(base),
        method=method,
        metrics={"accuracy": 0.875, "macro_f1": 0.5},
        per_class={"otter": {"f1": 0.25, "support": 4}},
        recipe={"lora": {"r": 4, "alpha": 4}, "train": {"rate": 1e-3}},
        recipe_hash="0123abcd",
        versions=installed_versions(),
        threshold=0.4 if base.task == "multilabel" else None,
    )
    return dataclasses.replace(about, **changes)


def adapted(base, *, saved=(), **options):
    """The base with adapters and a head as after a training."""
    config = LoraConfig(r=2, target_modules=base.targets, modules_to_save=[*base.heads, *saved], **options)
    model = get_peft_model(base.module, config)
    fill(model)
    return model.eval()


def fill(model, seed=3):
    """Give all that would be trained other values."""
    numbers = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=numbers)


def trained_whole(base, *, only_head=False):
    """The base as after a training without adapters, and what of it was trained."""
    module = base.module
    module.requires_grad_(not only_head)
    for path in base.heads:
        module.get_submodule(path).requires_grad_(True)
    fill(module)
    return module.eval()


def untouched(module):
    """A copy that later changes do not reach."""
    return copy.deepcopy(module)


def logits(model, side, seed=9):
    """What a model gives for random pixels."""
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return logits_of(model(pixels))
