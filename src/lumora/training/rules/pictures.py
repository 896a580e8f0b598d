"""What is done to pictures, and what counts as loss, when nothing is said."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lumora.training.rules.base import Choice, Choosing, Rule, always, default, detected
from lumora.training.rules.train import is_short, steps

LARGEST_SIDE = 512
STRIDE = 32
"""Sides are a multiple of this: the stride of the coarsest maps."""
UNEQUAL = 10
"""How many times as common as the rarest a class may be before it is pointed out."""
_SIDED = re.compile(r"(?:^|[\W_])(left|right|port|starboard|clockwise)(?:$|[\W_])", re.IGNORECASE)


def size(known: Choosing) -> Choice:
    """That of the base; for segmentation the pictures' own, up to 512, if the base takes any."""
    facts = known.facts
    side, least = min(facts.picture_size), max(facts.base.size)
    if not facts.segments:
        return detected(facts.base.size, "what the base was trained with")
    if not facts.base.multi_scale:
        return detected(facts.base.size, "the base takes no other size")
    chosen = min(max(side // STRIDE * STRIDE, least), max(LARGEST_SIDE, least))
    return detected((chosen, chosen), f"the pictures' shorter side is {side:,}")


def area(known: Choosing) -> Choice:
    """0.08 to 1 for classification, null for segmentation."""
    if known.facts.segments:
        return default(None, "segmentation draws a scale")
    return default((0.08, 1.0), "usual for classification")


def scale(known: Choosing) -> Choice:
    """0.5 to 2 for segmentation, 0.75 to 1.5 below 500 steps, null for classification."""
    if not known.facts.segments:
        return default(None, "classification draws a part")
    if is_short(known):
        return detected((0.75, 1.5), f"{steps(known):,} steps are few to learn every scale")
    return default((0.5, 2.0), "usual for segmentation")


def flip(known: Choosing) -> Choice:
    """0.5; 0 if the labels are digits, letters, or name a side."""
    names = known.facts.class_names
    if len(names) > 1 and all(len(name.strip()) == 1 and name.strip().isalnum() for name in names):
        return detected(0.0, "the labels are digits or letters, which mirrored are others")
    if sided := [name for name in names if _SIDED.search(name)]:
        return detected(0.0, f"the label {sided[0]!r} depends on left and right")
    return default(0.5, "half of the pictures")


def colour(known: Choosing) -> Choice:
    """0.25 for segmentation, else 0."""
    if known.facts.segments:
        return default(0.25, "usual for segmentation")
    return default(0.0, "parts and mirroring vary enough")


def class_weights(known: Choosing) -> Choice:
    """None; where some classes are much rarer than others, the reason says so."""
    counts, names = known.facts.class_counts, known.facts.class_names
    present = [count for count in counts if count]
    if present and max(present) >= UNEQUAL * min(present):
        rare = names[counts.index(min(present))]
        times = max(present) // min(present)
        return detected("none", f'every picture counts the same; {rare!r} is {times} times rarer ("balanced" helps it)')
    return default("none", "every picture counts the same")


def dice(known: Choosing) -> Choice:
    """1 for segmentation, else 0."""
    if known.facts.segments:
        return default(1.0, "so that small things count")
    return default(0.0, "for segmentation only")


RULES: Mapping[str, Rule] = {
    "pictures.size": size,
    "pictures.area": area,
    "pictures.scale": scale,
    "pictures.flip": flip,
    "pictures.colour": colour,
    "pictures.trivial_augment": always(False, "slower to learn from"),
    "pictures.mix": always("none", "pays in long trainings only"),
    "loss.label_smoothing": always(0.0, "labels are believed"),
    "loss.class_weights": class_weights,
    "loss.dice": dice,
}
