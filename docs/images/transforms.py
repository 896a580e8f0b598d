"""Draw `transforms.png`: what each public transform does to a picture and mask.

    python docs/images/transforms.py

White lines are the borders in the mask; stripes are where it counts nowhere.
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from lumora.data.labels import IGNORE
from lumora.data.scenes import scene
from lumora.data.transforms import (
    CentreCrop,
    ColourJitter,
    CutMix,
    Flip,
    Mixup,
    Normalise,
    Pad,
    RandomCrop,
    RandomResizedCrop,
    Resize,
    ScaleJitter,
    ToFloat,
    Transform,
    TrivialAugment,
    classification_eval,
    classification_train,
    generator_for,
    segmentation_eval,
    segmentation_train,
)

TILE, GAP, LABEL, DRAWS = 112, 6, 200, 5
STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
ROWS: dict[str, Transform] = {
    "Resize((90, 112))": Resize((90, 112)),
    "CentreCrop(90)": CentreCrop(90),
    "Pad(112)": Pad(112),
    "RandomCrop(90)": RandomCrop(90),
    "RandomResizedCrop(112)": RandomResizedCrop(112),
    "ScaleJitter(112)": ScaleJitter(112),
    "Flip()": Flip(),
    "ColourJitter(\n  0.4, 0.4, 0.4, 0.1)": ColourJitter(0.4, 0.4, 0.4, 0.1),
    "TrivialAugment()": TrivialAugment(),
    "ToFloat()": ToFloat(),
    "Normalise(mean, std)\nshown from -2 to 2": Normalise(*STATISTICS),
    "classification_train(112)": classification_train(112, *STATISTICS),
    "classification_eval(112)": classification_eval(112, *STATISTICS),
    "segmentation_train(112)": segmentation_train(112, *STATISTICS),
    "segmentation_eval(112)": segmentation_eval(112, *STATISTICS),
}
FIXED = (
    "Resize",
    "CentreCrop",
    "Pad",
    "ToFloat",
    "Normalise",
    "classification_eval",
    "segmentation_eval",
)


def tile(picture: Tensor, mask: Tensor | None) -> Image.Image:
    """A picture as people see it, with its mask's borders."""
    if picture.is_floating_point():
        if picture.min() < 0:
            picture = picture / 4 + 0.5
        picture = picture.clamp(0, 1).mul(255).to(torch.uint8)
    picture = picture.clone()
    if mask is not None:
        border = torch.zeros(mask.shape, dtype=torch.bool)
        border[1:] |= mask[1:] != mask[:-1]
        border[:, 1:] |= mask[:, 1:] != mask[:, :-1]
        picture[:, border] = 255
        rows, columns = torch.meshgrid(
            *map(torch.arange, mask.shape), indexing="ij"
        )
        picture[:, (mask == IGNORE) & ((rows + columns) % 8 < 2)] = 60
    return Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())


def batch_rows() -> dict[str, list[Image.Image]]:
    """What Mixup and CutMix make of four pictures."""
    pictures = torch.stack(
        [
            Resize((TILE, TILE))(example(i)[0], None, torch.Generator())[0]
            for i in range(DRAWS)
        ]
    )
    labels = torch.arange(DRAWS)
    rows = {}
    for name, mix in (
        ("Mixup(5, alpha=0.8)", Mixup(DRAWS, 0.8)),
        ("CutMix(5)", CutMix(DRAWS)),
    ):
        mixed, _ = mix(
            ToFloat().applied(pictures), labels, generator_for(3, 0, "batch")
        )
        rows[name] = [tile(picture, None) for picture in mixed]
    return rows


def example(number: int) -> tuple[Tensor, Tensor]:
    """A scene of 112 × 84 pixels and its mask."""
    found = scene(0, number, (84, 112))
    pixels = torch.from_numpy(found.picture).permute(2, 0, 1)
    return pixels, torch.from_numpy(found.mask)


def sheet() -> Image.Image:
    """Everything, a row for each transform."""
    picture, mask = example(4)
    rows = {
        "the picture and its mask": [tile(picture, None), tile(picture, mask)]
    }
    for name, transform in ROWS.items():
        draws = 1 if name.startswith(FIXED) else DRAWS
        pairs = [
            transform(picture, mask, generator_for(1, epoch, "example"))
            for epoch in range(draws)
        ]
        masks = not name.startswith("classification")
        rows[name] = [
            tile(new, new_mask if masks else None) for new, new_mask in pairs
        ]
    rows |= batch_rows()
    heights = [
        max(image.height for image in images) + GAP for images in rows.values()
    ]
    whole = Image.new(
        "RGB", (LABEL + DRAWS * (TILE + GAP), sum(heights) + GAP), "white"
    )
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(14)
    top = GAP
    for (name, images), height in zip(rows.items(), heights, strict=True):
        draw.text((8, top + 4), name, fill=(30, 30, 30), font=font, spacing=3)
        for i, image in enumerate(images):
            whole.paste(image, (LABEL + i * (TILE + GAP), top))
        top += height
    return whole


if __name__ == "__main__":
    path = Path(__file__).with_name("transforms.png")
    sheet().quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
