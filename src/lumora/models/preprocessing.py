"""What was done to every picture that a checkpoint was trained on, and has to be done to yours."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lumora.errors import LumoraError

Size = tuple[int, int]
"""Height and width."""

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""Pillow's numbers, which transformers writes."""


@dataclass(frozen=True)
class Preprocessing:
    """From a picture as it is to what a model sees: resize, crop, rescale, normalise.

    Calling it does that to one picture, as transformers, timm or torchvision would.

    >>> simple = Preprocessing(resize=256, crop=(224, 224))
    >>> simple(torch.zeros(3, 300, 400, dtype=torch.uint8)).shape
    torch.Size([3, 224, 224])
    >>> Preprocessing.from_dict(simple.to_dict()) == simple
    True
    """

    resize: int | Size | None = 224
    """The length that the shorter side gets, or the height and width whatever the proportions were; None: as it is."""
    crop: Size | None = None
    """The middle that is cut out then; a side that is shorter is filled with black."""
    crop_corner: str = "even"
    """Where the middle starts when a pixel is over: at the half rounded to "even" (torchvision, timm) or down to the
    "floor" (transformers)."""
    longest: int | None = None
    """The length that the longer side may have at most, with one length in `resize`."""
    interpolation: str = "bilinear"
    rescale: float = 1 / 255
    mean: tuple[float, ...] = _IMAGENET_MEAN
    std: tuple[float, ...] = _IMAGENET_STD
    bgr: bool = False
    """Whether the model wants blue first."""
    reduce_labels: bool = False
    """Whether 0 in a mask means "nothing" and the first class is 1, as in ADE20K."""
    origin: str = "ImageNet's usual values; the model brings none"
    """Where these values come from."""
    notes: tuple[str, ...] = ()
    """What the checkpoint's own preprocessing does that this does not."""

    @property
    def size(self) -> Size | None:
        """Height and width of what the model sees; None where that depends on the picture."""
        if self.crop is not None:
            return self.crop
        return self.resize if isinstance(self.resize, tuple) else None

    @property
    def usual_size(self) -> Size:
        """The same, but square where the height and width depend on the picture."""
        side = self.resize if isinstance(self.resize, int) else 224
        return self.size or (side, side)

    def __str__(self) -> str:
        """What is done, in words.

        >>> print(Preprocessing(resize=256, crop=(224, 224)))
        shorter side to 256, middle 224 × 224, bilinear, mean 0.485 0.456 0.406, std 0.229 0.224 0.225
        """
        words: list[str] = []
        if isinstance(self.resize, int):
            words.append(f"shorter side to {self.resize}")
        elif self.resize is not None and self.resize != self.crop:
            words.append(f"resized to {self.resize[0]} × {self.resize[1]}")
        if self.crop is not None:
            words.append(f"middle {self.crop[0]} × {self.crop[1]}")
        if self.resize is not None:
            words.append(self.interpolation)
        mean, std = (" ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std))
        words += [f"mean {mean}", f"std {std}"]
        words += ["blue first"] * self.bgr + ["label 0 is nothing"] * self.reduce_labels
        return ", ".join(words)

    def __call__(self, picture: Tensor) -> Tensor:
        """What the model sees of a picture: uint8 (3, H, W) becomes float (3, h, w)."""
        return self.normalise(self.framed(picture))

    def framed(self, picture: Tensor) -> Tensor:
        """A picture resized and cropped, and still uint8."""
        from torchvision.transforms.v2 import functional as F

        if picture.dim() != 3 or picture.shape[0] != 3 or picture.dtype != torch.uint8:
            raise LumoraError(
                f"A picture must be uint8 (3, H, W), but is {str(picture.dtype).removeprefix('torch.')} "
                f"{tuple(picture.shape)}."
            )
        if (shape := self.resized(*picture.shape[1:])) != picture.shape[1:]:
            mode: Any = F.InterpolationMode(self.interpolation)  # type: ignore[attr-defined]
            picture = F.resize(picture, list(shape), mode, antialias=True)
        if self.crop is not None:
            picture = _middle(picture, self.crop, round if self.crop_corner == "even" else math.floor)
        return picture

    def resized(self, height: int, width: int) -> Size:
        """The height and width of a picture after resizing and before cropping."""
        if self.resize is None:
            return height, width
        if isinstance(self.resize, tuple):
            return self.resize
        shorter, longer = min(height, width), max(height, width)
        side: float = self.resize
        if self.longest is not None and longer / shorter * side > self.longest:
            side = self.longest * shorter / longer
        short, long = max(1, round(side)), max(1, int(side * longer / shorter))
        return (short, long) if height <= width else (long, short)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Numbers for the model from uint8 (..., 3, H, W), whose size stays."""
        if self.bgr:
            pixels = pixels.flip(-3)
        mean = torch.tensor(self.mean, device=pixels.device)[:, None, None]
        std = torch.tensor(self.std, device=pixels.device)[:, None, None]
        return (pixels * self.rescale - mean) / std

    def with_size(self, size: Size) -> Preprocessing:
        """The same for pictures of another size: resized in the same proportion, cropped to `size`."""
        if self.crop is None or self.resize is None:
            return dataclasses.replace(self, resize=size, crop=None, longest=None)
        if isinstance(self.resize, tuple):
            scaled = tuple(round(r * s / c) for r, s, c in zip(self.resize, size, self.crop, strict=True))
            return dataclasses.replace(self, resize=(scaled[0], scaled[1]), crop=size)
        return dataclasses.replace(self, resize=round(self.resize * min(size) / min(self.crop)), crop=size)

    # --- as plain values ----------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """All fields as values that JSON knows."""
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """What `to_dict` was called on."""
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(values.keys() - known):
            raise LumoraError(f"Preprocessing has no {', '.join(unknown)}; it has {', '.join(sorted(known))}.")
        plain: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
        return cls(**plain)

    def to_transformers(self) -> dict[str, Any]:
        """The content of a `preprocessor_config.json` with which transformers does the same."""
        if self.bgr or self.longest is not None:
            raise LumoraError("transformers has no general processor for this order of colours or this way to resize.")
        size = {"shortest_edge": self.resize} if isinstance(self.resize, int) else _edges(self.resize)
        resample = next((number for number, name in _RESAMPLE.items() if name == self.interpolation), 2)
        return {
            "image_processor_type": "SegformerImageProcessor" if self.reduce_labels else "BitImageProcessor",
            "do_convert_rgb": True,
            "do_resize": self.resize is not None,
            "size": size,
            "resample": resample,
            "do_center_crop": self.crop is not None,
            "crop_size": _edges(self.crop),
            "do_rescale": True,
            "rescale_factor": self.rescale,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            **({"do_reduce_labels": True} if self.reduce_labels else {}),
        }


def from_timm(values: Mapping[str, Any]) -> Preprocessing:
    """What timm does for a model with this `pretrained_cfg`."""
    _, height, width = values.get("input_size") or (3, 224, 224)
    portion = values.get("crop_pct") or 0.875
    scaled = math.floor(height / portion), math.floor(width / portion)
    mode, notes = values.get("crop_mode") or "center", ()
    if mode == "border":
        notes = ("timm keeps the proportions and adds borders; here the picture is resized to the whole square.",)
    square = scaled[0] == scaled[1] and mode == "center"
    return Preprocessing(
        resize=scaled[0] if square else scaled,
        crop=(height, width),
        interpolation=_interpolation(values.get("interpolation") or "bilinear"),
        mean=tuple(values.get("mean") or _IMAGENET_MEAN),
        std=tuple(values.get("std") or _IMAGENET_STD),
        origin="timm's pretrained_cfg",
        notes=notes,
    )


def from_torchvision(transforms: Any) -> Preprocessing:
    """What the transforms of torchvision's weights do."""
    resize, crop = getattr(transforms, "resize_size", None), getattr(transforms, "crop_size", None)
    return Preprocessing(
        resize=_one_or_two(resize),
        crop=None if crop is None else _pair(crop),
        interpolation=getattr(transforms, "interpolation", _Bilinear).value,
        mean=tuple(getattr(transforms, "mean", _IMAGENET_MEAN)),
        std=tuple(getattr(transforms, "std", _IMAGENET_STD)),
        origin="the transforms of torchvision's weights",
    )


class _Bilinear:
    value = "bilinear"


def from_smp(values: Mapping[str, Any]) -> Preprocessing:
    """What segmentation-models-pytorch says of an encoder's weights. Pictures keep their size."""
    return Preprocessing(
        resize=None,
        rescale=1.0 if max(values.get("input_range") or [0, 1]) > 1 else 1 / 255,
        mean=tuple(values.get("mean") or (0.0, 0.0, 0.0)),
        std=tuple(values.get("std") or (1.0, 1.0, 1.0)),
        bgr=values.get("input_space") == "BGR",
        origin="the encoder's weights in segmentation-models-pytorch",
    )


def from_transformers(values: Mapping[str, Any], origin: str = "preprocessor_config.json") -> Preprocessing:
    """What the image processor of transformers with these values does."""
    kind = str(values.get("image_processor_type") or values.get("feature_extractor_type") or "")
    kind = kind.removesuffix("Fast").removesuffix("Pil").replace("FeatureExtractor", "ImageProcessor")
    resize, longest, notes = _size(values.get("size", values.get("image_size")))
    crop = None
    if values.get("do_center_crop"):
        crop = _pair(values.get("crop_size") or 224)
    resize, crop = _of_kind(kind, values, resize, crop)
    if not values.get("do_resize", True):
        resize, longest = None, None
    if values.get("do_color_quantize"):
        raise LumoraError("This checkpoint wants colours as words (ImageGPT), not pixels; Lumora cannot adapt it.")
    if values.get("do_pad") and values.get("pad_size"):
        notes = (*notes, "transformers fills the picture up to a square; here it keeps its size.")
    mean, std, rescale = _normalisation(kind, values)
    return Preprocessing(
        resize=resize,
        crop=crop,
        crop_corner="floor",
        longest=longest,
        interpolation=_interpolation(values.get("resample", 2)),
        rescale=rescale,
        mean=mean,
        std=std,
        bgr=bool(values.get("do_flip_channel_order")),
        reduce_labels=bool(values.get("do_reduce_labels", values.get("reduce_labels", False))),
        origin=origin,
        notes=notes,
    )


def _size(size: Any) -> tuple[int | Size | None, int | None, tuple[str, ...]]:
    """What `size` says: the resize, the longest side, and notes."""
    if size is None:
        return None, None, ("The checkpoint does not say a size; pictures keep theirs.",)
    if not isinstance(size, Mapping):
        return _pair(size), None, ()
    if "height" in size and "width" in size:
        return (int(size["height"]), int(size["width"])), None, ()
    if "shortest_edge" in size:
        return int(size["shortest_edge"]), _whole(size.get("longest_edge")), ()
    if "longest_edge" in size:
        side = int(size["longest_edge"])
        return (side, side), None, ("transformers resizes the longer side alone; here the proportions change.",)
    return None, None, (f"The size {dict(size)} is not understood; pictures keep theirs.",)


def _of_kind(
    kind: str, values: Mapping[str, Any], resize: int | Size | None, crop: Size | None
) -> tuple[int | Size | None, Size | None]:
    """Corrections for the processors that resize in a way of their own."""
    side = resize if isinstance(resize, int) else None
    portion = values.get("crop_pct")
    if kind == "ConvNextImageProcessor" and (side := side or (min(resize) if isinstance(resize, tuple) else None)):
        if side >= 384:
            return (side, side), crop
        return int(side / (portion or 224 / 256)), crop or (side, side)
    if kind == "PoolFormerImageProcessor" and portion and resize is not None:
        return int((side or min(resize if isinstance(resize, tuple) else (0, 0))) / portion), crop
    if kind == "LevitImageProcessor" and side is not None:
        return int(256 / 224 * side), crop
    return resize, crop


def _normalisation(kind: str, values: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...], float]:
    """Mean, standard deviation and factor; EfficientNet's second normalisation folded into one."""
    rescale = float(values.get("rescale_factor", 1 / 255)) if values.get("do_rescale", True) else 1.0
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    # MobileViT's processor has a mean, but has never used it.
    usual = values.get("image_mean") is not None and kind != "MobileViTImageProcessor"
    if values.get("do_normalize", usual):
        mean = _three(values.get("image_mean"), _IMAGENET_MEAN)
        std = _three(values.get("image_std"), _IMAGENET_STD)
    if kind == "EfficientNetImageProcessor":
        if values.get("rescale_offset"):
            mean = tuple(m + 1 for m in mean)
        if values.get("include_top", True):
            second = _three(values.get("image_std"), (1.0, 1.0, 1.0))
            std = tuple(s * t for s, t in zip(std, second, strict=True))
    return mean, std, rescale


def _middle(picture: Tensor, size: Size, whole: Callable[[float], int]) -> Tensor:
    (height, width), (h, w) = picture.shape[-2:], size
    if h > height or w > width:
        down, right = max(h - height, 0), max(w - width, 0)
        picture = torch.nn.functional.pad(picture, (right // 2, right - right // 2, down // 2, down - down // 2))
        height, width = picture.shape[-2:]
    top, left = whole((height - h) / 2), whole((width - w) / 2)
    return picture[..., top : top + h, left : left + w]


def _three(values: Any, otherwise: tuple[float, ...]) -> tuple[float, ...]:
    if values is None:
        return otherwise
    return (float(values),) * 3 if isinstance(values, int | float) else tuple(float(v) for v in values)


def _interpolation(value: Any) -> str:
    """The name in torchvision for an interpolation that a checkpoint names in its own way."""
    name = _RESAMPLE.get(value, "bilinear") if isinstance(value, int) else str(value)
    return name if name in _RESAMPLE.values() else "bicubic"  # timm's "random" is for training


def _one_or_two(value: Any) -> int | Size | None:
    if value is None or isinstance(value, int):
        return value
    return int(value[0]) if len(value) == 1 else _pair(value)


def _pair(value: Any) -> Size:
    if isinstance(value, Mapping):
        if "height" not in value:
            return _pair(value.get("shortest_edge", 224))
        return int(value["height"]), int(value["width"])
    if isinstance(value, int):
        return value, value
    return (int(value[0]), int(value[-1]))


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def _edges(size: Size | None) -> dict[str, int] | None:
    return None if size is None else {"height": size[0], "width": size[1]}
