"""Bundles that share a base, as after several trainings."""

import torch
from tests.bundle.making import KINDS, about_of, fill
from tests.data.making import noise

from lumora.bundle import write
from lumora.data import Labels
from lumora.lora import LoraConfig, get_peft_model
from lumora.lora.names import is_inside
from lumora.models import load_base

NAMES = ("red fox", "otter", "owl", "wolf", "lynx", "hare", "mole")


def base_folder(kind, folder):
    """The name of a base of a kind, saved in a folder if it has to be; the task, and the side of pictures."""
    save, task, side = KINDS[kind]
    place = save(folder)
    return ({} if place is None else {"name": str(place)}), task, side


def norm_paths(base):
    """The norms outside the head, as recipes train them."""
    norms = [path for path, module in base.module.named_modules() if "Norm" in type(module).__name__]
    return [path for path in norms if not any(is_inside(path, head) for head in base.heads)]


def bundle(folder, given, task, side, *, labels=3, seed=0, norms=True, rank=2, method="lora", **options):
    """Write a bundle on a base; what would be trained is filled with numbers. Gives its folder."""
    base = load_base(**given, task=task, labels=NAMES[:labels])
    names = NAMES[:labels]
    if method == "lora":
        saved = [*base.heads, *(norm_paths(base) if norms else ())]
        config = LoraConfig(r=rank, lora_alpha=4, target_modules=base.targets, modules_to_save=saved, **options)
        model = get_peft_model(base.module, config)
    else:
        model = base.module.requires_grad_(method == "full")
        for path in base.heads:
            model.get_submodule(path).requires_grad_(True)
    fill(model, seed)
    about = about_of(base, side, method, labels=Labels(names), per_class={}, metrics={})
    write(folder, model.eval(), about)
    return folder


def photographs(count, height=50, width=60):
    """Pictures (H, W, 3), each another."""
    return [noise(height + i, width + 2 * i, seed=i) for i in range(count)]


def alike(one, other, tolerance=1e-5):
    """Two predictions are the same but for rounding."""
    if hasattr(one, "mask"):
        assert one.mask.shape == other.mask.shape
        assert (one.mask != other.mask).float().mean() < 1e-3
    else:
        torch.testing.assert_close(one.probabilities, other.probabilities, atol=tolerance, rtol=0)
