"""From features to labels: a light segmentation head for any backbone, a linear one, and finding a model's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lumora.errors import LumoraError
from lumora.models.features import Features
from lumora.models.readers import Reader
from lumora.models.watching import empty_picture, trying_out, watch_output

WIDTH = 128


class MultiScaleHead(nn.Module):
    """Labels for every place of a picture, from feature maps of several sizes.

    Every map is projected to a common width, normalised and mixed at its own size; the results are brought to the size
    of the finest map and added, which gives what mixing all of them side by side at that size would give (a product
    along the channels and bilinear interpolation along the places can change their order), for a fraction of the work.

    Parameters: `width · (Σ channels + maps · (width + 2) + 2 + labels) + labels`; with the usual width of 128 and
    ViT-B's four maps of 768 channels, 0.46 million.

    >>> head = MultiScaleHead((8, 16), num_labels=5, width=4)
    >>> head([torch.rand(1, 8, 12, 16), torch.rand(1, 16, 6, 8)]).shape
    torch.Size([1, 5, 12, 16])
    >>> sum(p.numel() for p in head.parameters()) == 4 * (24 + 2 * (4 + 2) + 2 + 5) + 5
    True
    """

    def __init__(self, channels: Sequence[int], num_labels: int, width: int = WIDTH, dropout: float = 0.1) -> None:
        super().__init__()
        # Linear layers and norms on (B, h, w, C): in this order of dimensions none of them has to copy.
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.Linear(c, width, bias=False), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, width, bias=False)
            )
            for c in channels
        )
        self.norm = nn.LayerNorm(width)
        self.act = nn.GELU()
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Linear(width, num_labels)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Logits (B, labels, h, w) at the size of the finest map, which comes first."""
        if len(maps) != len(self.levels):
            raise LumoraError(f"This head takes {len(self.levels)} feature maps, but got {len(maps)}.")
        size = maps[0].shape[2:]
        mixed: Tensor | None = None
        for level, features in zip(self.levels, maps, strict=True):
            part = level(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # (B, width, h, w)
            if part.shape[2:] != size:
                part = F.interpolate(part, size=size, mode="bilinear", align_corners=False)
            mixed = part if mixed is None else mixed + part
        assert mixed is not None
        fused = self.act(self.norm(mixed.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return self.classifier(self.dropout(fused).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class OnBackbone(nn.Module):
    """A backbone, how its maps are read, and a head, under a name that no backbone has inside."""

    def __init__(self, backbone: nn.Module, reader: Reader, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.reader = reader
        self.light_head = head


class BackboneSegmenter(OnBackbone):
    """Any backbone with a `MultiScaleHead`."""

    def __init__(
        self, features: Features, num_labels: int, width: int = WIDTH, only_size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(features.backbone, features.reader, MultiScaleHead(features.channels, num_labels, width))
        self.multiple = max(features.strides)
        self.only_size = only_size
        """The height and width of pictures, where the backbone takes no others."""

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Logits (B, labels, h, w) of pictures (B, 3, H, W), at the size of the finest feature map.

        Pictures are stretched first where the backbone takes one size alone, and sides that are no multiple of the
        coarsest stride to the next one.
        """
        step = self.multiple
        # rounded up without negative numbers, which ONNX divides otherwise
        height, width = ((length + step - 1) // step * step for length in pixel_values.shape[2:])
        size = self.only_size or (height, width)
        # a file has no `if`: there, sides that fit already are brought to the size they have
        if torch.compiler.is_exporting() or size != tuple(pixel_values.shape[2:]):
            pixel_values = F.interpolate(pixel_values, size=size, mode="bilinear", align_corners=False)
        return self.light_head(self.reader(self.backbone, pixel_values))


class BackboneClassifier(OnBackbone):
    """Any backbone with a norm and a linear layer on the mean of its coarsest map."""

    def __init__(self, features: Features, num_labels: int) -> None:
        channels = features.channels[-1]
        head = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, num_labels))
        super().__init__(features.backbone, features.reader, head)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Logits (B, labels) of pictures (B, 3, H, W)."""
        return self.light_head(self.reader(self.backbone, pixel_values)[-1].mean((2, 3)))


# --- a model's own head -----------------------------------------------------------------------------------------------


def find_output_layers(model: nn.Module, size: tuple[int, int]) -> tuple[list[str], torch.Size]:
    """The layers whose outputs are the logits, and the shape of the logits.

    They are the last to run with as many outputs as there are logits; several only where a model adds the outputs of
    layers that lie beside each other. One more output of theirs must be one more logit: a model without a head ends
    in layers that look the same. Costs two forward passes.
    """
    ran: list[nn.Module] = []
    layers: dict[nn.Module, str] = {
        m: path for path, m in model.named_modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)
    }
    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(watch_output(layer, partial(_note, ran, layer)))
        stack.enter_context(trying_out(model))
        shape = _logits(model(empty_picture(model, size))).shape
    fitting = [layers[layer] for layer in dict.fromkeys(ran) if _outputs(layer) == shape[1]]
    owner = fitting[-1].rpartition(".")[0] if fitting else ""
    if not owner or isinstance(model.get_submodule(owner), nn.Sequential):
        found = fitting[-1:]
    else:
        found = [path for path in fitting if path.rpartition(".")[0] == owner]
    return found if found and _decide(model, found, shape[1], size) else [], shape


def _decide(model: nn.Module, paths: Sequence[str], outputs: int, size: tuple[int, int]) -> bool:
    """Whether these layers, and nothing after them, decide how many logits there are."""
    were = {path: model.get_submodule(path) for path in paths}
    try:
        for path in paths:
            replace_layer(model, path, outputs + 1)
        with trying_out(model):
            return _logits(model(empty_picture(model, size))).shape[1] == outputs + 1
    except Exception:  # whatever a model of anybody's does with a layer that does not fit
        return False
    finally:
        for path, layer in were.items():
            put(model, path, layer)


def _logits(outputs: Any) -> Tensor:
    """The logits: what a model gave itself, transformers' `.logits`, the first in a tuple or dictionary."""
    found: Any = getattr(outputs, "logits", outputs)
    if isinstance(found, Mapping):
        found = next(iter(found.values()), None)
    elif isinstance(found, list | tuple):
        found = next(iter(found), None)
    if isinstance(found, Tensor):
        return found
    raise LumoraError(f"The model gives a {type(outputs).__name__} without logits; labels cannot be read from that.")


def _note(into: list[nn.Module], layer: nn.Module, _output: Tensor) -> None:
    into.append(layer)


def replace_layer(model: nn.Module, path: str, num_labels: int) -> None:
    """Put a fresh layer with `num_labels` outputs where a linear layer or a convolution is."""
    old: Any = model.get_submodule(path)
    kind: dict[str, Any] = {"bias": old.bias is not None, "device": old.weight.device, "dtype": old.weight.dtype}
    if isinstance(old, nn.Linear):
        fresh: nn.Module = nn.Linear(old.in_features, num_labels, **kind)
    else:
        fresh = type(old)(
            old.in_channels,
            num_labels,
            old.kernel_size,
            old.stride,
            old.padding,
            dilation=old.dilation,
            padding_mode=old.padding_mode,
            **kind,
        )
    put(model, path, fresh.train(old.training))


def put(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module where another is."""
    owner, _, name = path.rpartition(".")
    setattr(model.get_submodule(owner), name, module)


def _outputs(layer: nn.Module) -> int:
    return cast(Any, layer).out_features if isinstance(layer, nn.Linear) else cast(Any, layer).out_channels
