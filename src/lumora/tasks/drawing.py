"""Predictions drawn on pictures: masks with a legend, labels with how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lumora.data.labels import Colour, Labels

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "arial.ttf")
"""Fonts with more alphabets than the one that pillow carries, where a system has them."""
_INK, _PAPER = (32, 32, 32), (255, 255, 255)
_NARROWEST = 160
"""Captions narrower than this cannot be read; smaller pictures get a margin."""


def overlay(
    picture: Tensor, mask: Tensor, palette: Sequence[Colour], opacity: float = 0.5, ignore: int | None = None
) -> Tensor:
    """A picture, `uint8` (3, H, W), seen through its mask (H, W) of class ids; where nothing counts, itself."""
    colours = torch.tensor(palette, dtype=torch.float32, device=picture.device)
    ids = mask.to(picture.device).long()
    drawn = (ids >= 0) & (ids < len(colours)) & (ids != (-1 if ignore is None else ignore))
    through = colours[torch.where(drawn, ids, 0)].permute(2, 0, 1)
    mixed = picture.float().lerp(through, opacity).round().to(torch.uint8)
    return torch.where(drawn, mixed, picture)


def legend(mask: Tensor, labels: Labels, height: int) -> Tensor:
    """The classes of a mask with their colours and shares of the picture, the largest first: `uint8` (3, height, W)."""
    from PIL import Image, ImageDraw

    ids, counts = mask.unique(return_counts=True)
    shares = sorted(((int(n) / mask.numel(), int(i)) for i, n in zip(ids, counts, strict=True)), reverse=True)
    shares = [(share, i) for share, i in shares if 0 <= i < len(labels)]
    font, line = _font(height)
    room = max(height // line, 1)
    shown = shares if len(shares) <= room else shares[: room - 1]
    texts = [f"{labels.names[i]}  {share:.0%}" for share, i in shown]
    if rest := len(shares) - len(shown):
        texts.append(f"and {rest} more")
    width = int(max((font.getlength(text) for text in texts), default=0)) + 3 * line
    page = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(page)
    palette = labels.palette()
    for row, text in enumerate(texts):
        top = row * line
        if row < len(shown):
            box = (line // 2, top + line // 5, line // 2 + line, top + line - line // 5)
            pen.rectangle(box, fill=palette[shown[row][1]], outline=_INK)
        pen.text((2 * line, top + line // 2), text, fill=_INK, font=font, anchor="lm")
    return _tensor_of(page)


def with_legend(picture: Tensor, mask: Tensor, labels: Labels, opacity: float = 0.5) -> Tensor:
    """A picture under its mask, and the legend to the right."""
    drawn = overlay(picture, mask, labels.palette(), opacity, labels.ignore).cpu()
    return torch.cat([drawn, legend(mask.cpu(), labels, drawn.shape[1])], dim=2)


def with_caption(picture: Tensor, lines: Sequence[str]) -> Tensor:
    """A picture with lines of text below it; what does not fit the width ends in an ellipsis."""
    from PIL import Image, ImageDraw

    _, height, width = picture.shape
    font, line = _font(height)
    page = Image.new("RGB", (max(width, _NARROWEST), height + line * len(lines)), _PAPER)
    page.paste(Image.fromarray(picture.permute(1, 2, 0).cpu().numpy()), ((page.width - width) // 2, 0))
    pen = ImageDraw.Draw(page)
    for row, text in enumerate(lines):
        shown = _fitted(text, font, page.width - line)
        pen.text((line // 2, height + row * line + line // 2), shown, fill=_INK, font=font, anchor="lm")
    return _tensor_of(page)


def _font(height: int) -> tuple[FreeTypeFont | ImageFont, int]:
    """A font for a picture of this height, and the height of its lines."""
    from PIL import ImageFont

    size = min(max(height // 20, 11), 40)
    for name in _FONTS:
        try:
            return ImageFont.truetype(name, size), size * 3 // 2
        except OSError:
            continue
    return ImageFont.load_default(size), size * 3 // 2


def _fitted(text: str, font: FreeTypeFont | ImageFont, width: float) -> str:
    if font.getlength(text) <= width:
        return text
    end = next((i for i in range(len(text), 0, -1) if font.getlength(text[:i] + "…") <= width), 0)
    return text[:end] + "…"


def _tensor_of(page: object) -> Tensor:
    import numpy as np

    return torch.from_numpy(np.array(page)).permute(2, 0, 1).contiguous()
