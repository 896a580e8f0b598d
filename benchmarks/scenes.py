"""What generated scenes cost, and how much of their tasks colour alone gives away.

    python benchmarks/scenes.py                     # speed and colour baselines
    python benchmarks/scenes.py --network           # and a small convolutional network, some minutes
    python benchmarks/scenes.py --count 400 --size 128

Two baselines see colours and nothing of where they are. For the kind of scene: histograms of a picture's colours
(4 × 4 × 4 and 8 × 8 × 8 bins of RGB, and of each channel of HSV), given to logistic regression and to a random forest;
the best of them counts. For the mask: a pixel's own colour (RGB and HSV), given to a random forest and to boosted
trees. They are trained on scenes of one seed and scored on those of another.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
from numpy.typing import NDArray

from lumora.data.scenes import CLASSES, KINDS, Scene, scene

PIXELS = 60
"""Pixels drawn from each training picture for the pixel baselines; ten times as many are scored."""


def speed(size: int, count: int = 40) -> float:
    """Pictures a second of one core; the first picture, which also makes the textures, is left out."""
    scene(0, 0, size)
    start = time.process_time()
    for index in range(count):
        scene(0, index, size)
    return count / (time.process_time() - start)


def histograms(scenes: list[Scene]) -> dict[str, NDArray[np.float64]]:
    """Several kinds of colour histograms of each picture, as shares with their square root taken."""
    made: dict[str, list[NDArray[np.float64]]] = {"RGB 4³": [], "RGB 8³": [], "HSV 3 × 32": []}
    for one in scenes:
        pixels = one.picture.reshape(-1, 3)
        for bins, name in ((4, "RGB 4³"), (8, "RGB 8³")):
            places = (pixels // (256 // bins)).astype(np.int64) @ np.array([bins * bins, bins, 1])
            made[name].append(np.bincount(places, minlength=bins**3) / len(pixels))
        hsv = to_hsv(pixels)
        made["HSV 3 × 32"].append(
            np.concatenate([np.bincount(hsv[:, i] // 8, minlength=32) / len(hsv) for i in range(3)])
        )
    return {name: np.sqrt(np.stack(rows)) for name, rows in made.items()}


def to_hsv(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    from PIL import Image

    return np.asarray(Image.fromarray(pixels[None]).convert("HSV"))[0]


def kind_baselines(train: list[Scene], test: list[Scene]) -> dict[str, float]:
    """The accuracy of each pair of histogram and classifier."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    known, asked = histograms(train), histograms(test)
    kinds, answers = [one.kind for one in train], [one.kind for one in test]
    scores: dict[str, float] = {}
    for name in known:
        models = {
            "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(C=0.02, max_iter=300)),
            "random forest": RandomForestClassifier(400, min_samples_leaf=2, random_state=0),
        }
        for title, model in models.items():
            scores[f"{name}, {title}"] = float(model.fit(known[name], kinds).score(asked[name], answers))
    return scores


def drawn_pixels(scenes: list[Scene], each: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Colours (RGB and HSV) of random pixels, and their classes."""
    random = np.random.default_rng(seed)
    colours: list[NDArray[np.uint8]] = []
    classes: list[NDArray[np.uint8]] = []
    for one in scenes:
        chosen = random.integers(0, one.mask.size, each)
        pixels = one.picture.reshape(-1, 3)[chosen]
        colours.append(np.concatenate([pixels, to_hsv(pixels)], 1))
        classes.append(one.mask.ravel()[chosen])
    return np.concatenate(colours), np.concatenate(classes)


def mean_iou(predicted: NDArray[np.integer], truth: NDArray[np.integer]) -> float:
    """The mean over the classes of intersection by union, over all pixels together."""
    counts = np.bincount(truth.astype(np.int64) * len(CLASSES) + predicted, minlength=len(CLASSES) ** 2)
    counts = counts.reshape(len(CLASSES), len(CLASSES))
    both = np.diag(counts)
    return float(np.mean(both / np.maximum(counts.sum(0) + counts.sum(1) - both, 1)))


def pixel_baselines(train: list[Scene], test: list[Scene]) -> dict[str, float]:
    """The mean IoU of each classifier of a pixel's own colour."""
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

    known, classes = drawn_pixels(train, PIXELS, 1)
    asked, answers = drawn_pixels(test, 10 * PIXELS, 2)
    models = {
        "random forest": RandomForestClassifier(60, min_samples_leaf=5, random_state=0),
        "random forest, classes balanced": RandomForestClassifier(
            60, min_samples_leaf=5, class_weight="balanced", random_state=0
        ),
        "boosted trees": HistGradientBoostingClassifier(max_iter=60, random_state=0),
    }
    scores = {title: mean_iou(model.fit(known, classes).predict(asked), answers) for title, model in models.items()}
    largest = int(np.bincount(classes).argmax())
    scores["chance (always the largest class)"] = mean_iou(np.full(len(answers), largest), answers)
    return scores


def network(train: list[Scene], test: list[Scene], epochs: int) -> tuple[float, float]:
    """Accuracy and mean IoU of a small network, both heads trained together, on pictures of half the size."""
    import torch
    from torch import nn
    from torch.nn import functional

    def tensors(scenes: list[Scene]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        pictures = torch.stack([torch.from_numpy(one.picture).permute(2, 0, 1) for one in scenes])
        small = functional.interpolate(pictures.float() / 127.5 - 1, scale_factor=0.5, mode="area")
        masks = torch.stack([torch.from_numpy(one.mask[::4, ::4].copy()) for one in scenes]).long()
        return small, masks, torch.tensor([one.kind for one in scenes])

    def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
        )

    torch.manual_seed(0)
    fine = nn.Sequential(block(5, 24, 2), block(24, 48, 1), block(48, 48, 1))
    deep = nn.Sequential(block(48, 64, 2), block(64, 96, 2), block(96, 128, 2), block(128, 128, 1))
    to_kind, to_class = nn.Linear(128, len(KINDS)), nn.Conv2d(48 + 128, len(CLASSES), 1)
    model = nn.ModuleList([fine, deep, to_kind, to_class])

    def forward(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        side = torch.linspace(-1, 1, x.shape[-1]).expand(len(x), 1, *x.shape[-2:])
        near = fine(torch.cat([x, side, side.transpose(2, 3)], 1))
        far = deep(near)
        wide = functional.interpolate(far, near.shape[-2:], mode="bilinear")
        return to_kind(far.mean((2, 3))), to_class(torch.cat([near, wide], 1))

    pictures, masks, kinds = tensors(train)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.05)
    steps = epochs * (len(train) // 32)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    for step in range(steps):
        chosen = torch.randint(0, len(train), (32,))
        x, mask = pictures[chosen], masks[chosen]
        if step % 2:
            x, mask = x.flip(3), mask.flip(2)
        kind, classes = forward(x)
        loss = functional.cross_entropy(kind, kinds[chosen]) + functional.cross_entropy(classes, mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()
    pictures, masks, kinds = tensors(test)
    with torch.no_grad():
        kind, classes = forward(pictures)
    return float((kind.argmax(1) == kinds).float().mean()), mean_iou(
        classes.argmax(1).numpy().ravel(), masks.numpy().ravel()
    )


def shares(scenes: list[Scene]) -> list[tuple[str, float, float]]:
    """Of each class: its share of all pixels and of all pictures, in percent."""
    counts = np.stack([np.bincount(one.mask.ravel(), minlength=len(CLASSES)) for one in scenes])
    return [
        (name, 100 * float(counts[:, i].sum() / counts.sum()), 100 * float((counts[:, i] > 0).mean()))
        for i, name in enumerate(CLASSES)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=1600, help="training scenes; half as many are scored")
    parser.add_argument("--size", type=int, default=128, help="for the baselines; speed is measured at 256")
    parser.add_argument("--network", action="store_true", help="train a small network on the same scenes as well")
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(f"| speed | pictures a second of one core |\n|---|---|\n| 256 × 256 | {speed(256):.1f} |")
    train = [scene(1, index, arguments.size) for index in range(arguments.count)]
    test = [scene(2, index, arguments.size) for index in range(arguments.count // 2)]
    print("\n| class | % of pixels | % of pictures |\n|---|---|---|")
    for name, pixels, pictures in shares(test):
        print(f"| {name} | {pixels:.2f} | {pictures:.0f} |")
    print("\n| kind of scene from colours | accuracy |\n|---|---|")
    print(f"| chance | {1 / len(KINDS):.3f} |")
    for title, score in kind_baselines(train, test).items():
        print(f"| {title} | {score:.3f} |")
    print("\n| class from a pixel's colour | mean IoU |\n|---|---|")
    for title, score in pixel_baselines(train, test).items():
        print(f"| {title} | {score:.3f} |")
    if arguments.network:
        accuracy, iou = network(train, test, arguments.epochs)
        print("\n| a small network | |\n|---|---|")
        print(f"| accuracy of the kind | {accuracy:.3f} |\n| mean IoU at a quarter of the size | {iou:.3f} |")


if __name__ == "__main__":
    main()
