"""Bundles to predict with, pictures, and what must come out, worked out without the predictor."""

import numpy as np
import torch
from tests.bundle.making import about_of, adapted, base_of
from tests.data.making import noise
from torch.nn import functional as F

from lumora.bundle import write
from lumora.data import read_picture
from lumora.tasks.base import logits_of

SIZES = ((40, 60), (90, 70), (64, 64), (33, 47), (120, 50))


def bundle_of(kind, folder):
    """The bundle's folder, the model that it was written from, and what it says of itself."""
    torch.manual_seed(0)
    base, side = base_of(kind, folder / "base")
    model, about = adapted(base), about_of(base, side)
    write(folder / "bundle", model, about)
    return folder / "bundle", model, about


def arrays(sizes=SIZES):
    """Pictures (H, W, 3)."""
    return [noise(height, width, seed=i) for i, (height, width) in enumerate(sizes)]


def tensor(array):
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))


def expected(model, about, picture):
    """Probabilities (K,), or the mask (H, W) and how far the two largest logits are apart, of a tensor or a file."""
    picture = picture if isinstance(picture, torch.Tensor) else read_picture(picture)
    whole = about.task == "segmentation"
    seen = about.preprocessing.with_size(about.size)
    if whole:  # every pixel gets a class, so nothing is cut off
        seen = type(seen)(**{**vars(seen), "resize": about.size, "crop": None, "longest": None})
    with torch.no_grad():
        logits = logits_of(model(seen(picture)[None]))
    if not whole:
        return logits[0].softmax(0) if about.task == "classification" else logits[0].sigmoid()
    full = F.interpolate(logits, picture.shape[1:], mode="bilinear")[0]
    two = full.topk(2, 0).values
    return full.argmax(0), two[0] - two[1]


def check(prediction, model, about, picture):
    """A prediction is what the model gives, but for rounding."""
    right = expected(model, about, picture)
    if about.task == "segmentation":
        mask, apart = right
        assert prediction.mask.shape == mask.shape
        assert (prediction.mask == mask)[apart > 1e-4].all()
        return
    torch.testing.assert_close(prediction.probabilities, right, atol=1e-5, rtol=1e-4)
    if about.task == "classification":
        assert prediction.chosen == (int(right.argmax()),)
    else:
        assert set(prediction.chosen) == {i for i, p in enumerate(right.tolist()) if p >= about.threshold}
