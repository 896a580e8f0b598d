"""The base, its head and its adapters when nothing is said."""

from __future__ import annotations

from collections.abc import Mapping

from lumora.training.rules.base import Choice, Choosing, Rule, always, default, detected

EMBEDDED = "lumora/efficientnet-lite0"
FEW_PICTURES = 2000


def name(known: Choosing) -> Choice:
    """The embedded base."""
    given = known.facts.base.name
    return default(given, "comes with the package") if given == EMBEDDED else detected(given, "the base at hand")


def drop_path(known: Choosing) -> Choice:
    """0.1 for classification, 0 for segmentation and where the head alone is trained."""
    if known["train.method"] == "head":
        return default(0.0, "the base gives the same features every time when only the head is trained")
    if known.facts.segments:
        return default(0.0, "crops of random scale vary enough")
    return default(0.1, "usual for fine-tuning classifiers")


def rank(known: Choosing) -> Choice:
    """8 below 2,000 pictures; above, 16, and 32 for segmentation."""
    count = known.facts.pictures_train
    if count < FEW_PICTURES:
        return detected(8, f"{count:,} pictures are fewer than {FEW_PICTURES:,}")
    if known.facts.segments:
        return detected(32, f"segmentation with {count:,} pictures")
    return detected(16, f"classification with {count:,} pictures")


def alpha(known: Choosing) -> Choice:
    """As large as the rank."""
    return default(float(known["lora.r"]), "equal to the rank: updates count as they are")


def norms(known: Choosing) -> Choice:
    """True with adapters in classification, else false."""
    if known["train.method"] != "lora":
        return default(False, f"nothing of its own to say with method {known['train.method']}")
    if known.facts.segments:
        return default(False, "those of the base fit, and each one is saved whole")
    return default(True, "few parameters that help much")


RULES: Mapping[str, Rule] = {
    "base.name": name,
    "base.head": always("auto", "the model's own head where it has a light or a trained one"),
    "base.width": always(128, "enough for most labels"),
    "base.drop_path": drop_path,
    "lora.r": rank,
    "lora.alpha": alpha,
    "lora.dropout": always(0.0, "changed pictures keep adapters from learning by heart"),
    "lora.targets": always("all", "every layer that mixes channels"),
    "lora.exclude": always(None, "nothing is left out"),
    "lora.norms": norms,
    "lora.rslora": always(False, "for large ranks only"),
    "lora.dora": always(False, "slower, rarely better"),
    "lora.start": always(True, "adapters begin with no effect"),
    "lora.rank_pattern": always({}, "the same rank everywhere"),
    "lora.alpha_pattern": always({}, "the same alpha everywhere"),
    "lora.bias": always("none", "biases stay as they are"),
}
