"""Pictures of several kinds: grey among colours, CMYK, transparency, 16 bits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from lumora.data.doctor.examined import Examined
from lumora.data.doctor.report import Finding, Severity
from lumora.data.labels import counted

_KINDS = {
    "1": "grey",
    "L": "grey",
    "LA": "transparent",
    "La": "transparent",
    "PA": "transparent",
    "RGBA": "transparent",
    "RGBa": "transparent",
    "P": "palette",
    "CMYK": "CMYK",
    "LAB": "Lab",
    "HSV": "HSV",
    "F": "floating-point",
}
_SAID: dict[str, tuple[Severity, str, str]] = {
    "grey": ("warning", "in grey", "If a class is grey more often than others, its greyness is learnt."),
    "transparent": ("note", "with transparency", "What is transparent is read as white."),
    "palette": ("note", "with a palette of at most 256 colours", "Take the originals if there are any."),
    "CMYK": ("warning", "in CMYK, for print", "Colours are converted without a profile and may look off."),
    "Lab": ("warning", "in Lab", "Colours are converted without a profile and may look off."),
    "HSV": ("warning", "in HSV", "They are converted to RGB."),
    "16-bit": (
        "warning",
        "of 16 bits",
        "The lower 8 are dropped; what uses 12 of the 16 becomes nearly black. Scale to 8 bits yourself.",
    ),
    "floating-point": ("warning", "of floating-point numbers", "They are read as 0 to 1."),
}

ALWAYS_ODD = frozenset({"CMYK", "16-bit", "Lab", "floating-point"})
"""Kinds that are worth knowing of even if all pictures have them."""


def modes(examined: Examined) -> Iterator[Finding]:
    """Kinds of pictures beside the commonest one; 16 bits and CMYK also when all pictures have them."""
    kinds = {i: kind(examined, i) for i in examined.readable()}
    counts = Counter(kinds.values())
    if not counts:
        return
    usual = counts.most_common(1)[0][0]
    for each, count in sorted(counts.items()):
        files = [i for i, of in kinds.items() if of == each]
        if each == "RGB" and usual == "grey":
            yield Finding(
                "mixed-modes",
                "warning",
                f"{count:,} of {counted(len(kinds), 'picture')} in colour, the others in grey.",
                "If a class is in colour more often than others, that is learnt. Take all in grey, or all in colour.",
                examined.names(files),
            )
        elif each != "RGB" and (each != usual or each in ALWAYS_ODD):
            severity, words, effect = _SAID[each]
            yield Finding(
                "mixed-modes",
                severity,
                f"{count:,} of {counted(len(kinds), 'picture')} {words}.",
                f"{effect} --fix writes RGB of 8 bits.",
                examined.names(files),
            )


def kind(examined: Examined, index: int) -> str:
    """The kind of a picture's pixels, in words."""
    facts = examined.facts[index].picture
    mode = facts.header.mode if facts.header else "RGB"
    if mode.startswith("I"):
        return "16-bit"
    found = _KINDS.get(mode, "RGB")
    if facts.see_through:
        return "transparent"
    if found == "transparent":  # a channel for transparency that is not used
        return "grey" if mode in ("LA", "La") else "RGB"
    return found
