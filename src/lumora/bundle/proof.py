"""What a model gives for two pictures that can be drawn again anywhere, to prove that a bundle was read as written."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lumora.bundle.about import About
from lumora.bundle.precision import full_precision
from lumora.errors import BundleError, LumoraError
from lumora.models.watching import trying_out
from lumora.tasks.base import logits_of

_SEED = 20
_PICTURES = 2
_PLACES = 8
"""Logits of a segmentation are averaged down to as many places along each side."""

LOGITS = "logits"


def prove(model: nn.Module, about: About) -> dict[str, Tensor]:
    """The logits of the two pictures, `float32` on the CPU; the model's mode and place stay.

    Costs one forward pass with two pictures, in full 32-bit precision where the model has 32 bits.
    """
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(0))
    pixels = about.at_size.normalise(pictures(about.size)).to(like.device, like.dtype)
    try:
        with trying_out(model), full_precision(), torch.autocast(like.device.type, enabled=False):
            logits = logits_of(model(pixels)).float().cpu()
    except LumoraError:
        raise
    except (RuntimeError, ValueError, TypeError) as error:
        height, width = about.size
        raise BundleError(f"The model cannot be run on pictures of {height} × {width} ({error}).") from error
    return of_logits(logits, about)


def of_logits(logits: Tensor, about: About) -> dict[str, Tensor]:
    """The proof that a model's logits of the two pictures are, `float32` and on the CPU; an error if they are none."""
    _check(logits, about)
    if logits.dim() == 4:
        height, width = logits.shape[2:]
        logits = F.adaptive_avg_pool2d(logits, (min(height, _PLACES), min(width, _PLACES)))
    return {LOGITS: logits.contiguous()}


def compare(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], tolerance: float) -> None:
    """Raise unless both proofs are the same but for rounding.

    The tolerance is a share of the largest logit expected.

    >>> compare({"logits": torch.tensor([1.0, -8.0])}, {"logits": torch.tensor([1.004, -8.0])}, tolerance=1e-3)
    >>> compare({"logits": torch.tensor([1.0, -8.0])}, {"logits": torch.tensor([1.1, -8.0])}, tolerance=1e-3)
    Traceback (most recent call last):
    lumora.errors.BundleError: The outputs differ: 1 of 2 logits by more than 0.008, the most by 0.1 ...
    """
    if LOGITS not in expected:
        raise BundleError(f"The proof has no tensor {LOGITS!r}.")
    one, other = expected[LOGITS].float(), found[LOGITS].float()
    if one.shape != other.shape:
        raise BundleError(f"The outputs differ: logits {tuple(other.shape)} instead of {tuple(one.shape)}.")
    largest = float(one.abs().max()) if one.numel() else 0.0
    allowed = tolerance * largest
    apart = (one - other).abs()
    wrong = ~(apart <= allowed)  # what is no number is wrong too
    if wrong.any():
        raise BundleError(
            f"The outputs differ: {int(wrong.sum())} of {one.numel()} logits by more than {allowed:.2g}, the most by "
            f"{float(apart.where(apart == apart, torch.inf).max()):.3g} (the largest logit is {largest:.3g}, and "
            f"{tolerance:g} of it is taken for rounding)."
        )


def tolerance_of(model: nn.Module) -> float:
    """What counts as rounding, as a share of the largest logit: more for weights of 16 bits."""
    short = any(t.dtype in (torch.float16, torch.bfloat16) for t in (*model.parameters(), *model.buffers()))
    return 5e-2 if short else 1e-3


def pictures(size: tuple[int, int]) -> Tensor:
    """Two pictures of coarse patches with fine noise, `uint8` (2, 3, H, W); always the same of a size."""
    numbers = np.random.RandomState(_SEED)  # numpy keeps this one's numbers the same from version to version
    coarse = numbers.randint(0, 256, (_PICTURES, 3, _PLACES, _PLACES))
    rows, columns = (np.arange(length) * _PLACES // length for length in size)
    noisy = coarse[:, :, rows[:, None], columns] + numbers.randint(-32, 33, (_PICTURES, 3, *size))
    return torch.from_numpy(noisy.clip(0, 255).astype(np.uint8))


def _check(logits: Tensor, about: About) -> None:
    places = 4 if about.task == "segmentation" else 2
    if logits.dim() != places or logits.shape[1] != len(about.labels):
        wanted = f"(pictures, {len(about.labels)}{', height, width' if places == 4 else ''})"
        raise BundleError(
            f"A model for {about.task} with {len(about.labels)} labels must give logits {wanted}, but this one gives "
            f"{tuple(logits.shape)}."
        )
    if not logits.isfinite().all():
        raise BundleError("The model gives logits that are no numbers (NaN or infinite) for plain pictures.")
