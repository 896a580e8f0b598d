"""Names of models, and the models they name.

| name | is |
|---|---|
| `google/vit-base-patch16-224` or `path/to/folder` | a transformers model, on the Hub or here |
| `timm/poolformer_m36.sail_in1k` | a timm model |
| `torchvision/vit_b_16` | a torchvision model |
| `smp/unet?encoder=resnet34` | a model of segmentation-models-pytorch (the extra `lumora[smp]`) |
| `python:package.module:factory` | whatever that function returns |
| `lumora/efficientnet-lite0` | the base that is always there, with ImageNet weights; no network is needed |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import nn

Library = Literal["transformers", "timm", "torchvision", "smp", "python", "lumora"]

EMBEDDED = "lumora/efficientnet-lite0"
"""The base that is taken when none is named."""

_PREFIXES: dict[str, Library] = {
    "timm/": "timm",
    "torchvision/": "torchvision",
    "smp/": "smp",
    "python:": "python",
    "lumora/": "lumora",
}


@dataclass(frozen=True)
class ModelName:
    """A model's name, split into the library that knows it and the name it has there."""

    library: Library
    rest: str


def parse(name: str) -> ModelName:
    """Split a name; this alone does not tell whether there is such a model.

    >>> parse("timm/poolformer_m36.sail_in1k")
    ModelName(library='timm', rest='poolformer_m36.sail_in1k')
    >>> parse("google/vit-base-patch16-224").library
    'transformers'
    """
    for prefix, library in _PREFIXES.items():
        if name.startswith(prefix):
            return ModelName(library, name.removeprefix(prefix))
    return ModelName("transformers", name)


def build(name: str, *, meta: bool = False) -> nn.Module:
    """Return the model of a name, with its pretrained weights.

    Args:
        name: what the table at the top of this file lists.
        meta: only the structure. No weights are fetched, and none take memory but for the few models whose constructors
            compute with them: those are built with random ones. A `python:` factory decides for itself.
    """
    from lumora.models import libraries

    parsed = parse(name)
    makers: dict[Library, Callable[..., nn.Module]] = {
        "transformers": libraries.transformers_model,
        "timm": libraries.timm_model,
        "torchvision": libraries.torchvision_model,
        "smp": libraries.smp_model,
        "python": libraries.python_model,
        "lumora": libraries.embedded_model,
    }
    return makers[parsed.library](parsed.rest, meta=meta)
