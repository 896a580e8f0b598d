"""From the name of a model to the model, what is known of it, and what could be adapted in it."""

from lumora.models.base import Base, load_base
from lumora.models.facts import Facts
from lumora.models.features import Features, find_features
from lumora.models.heads import BackboneClassifier, BackboneSegmenter, MultiScaleHead
from lumora.models.names import EMBEDDED, ModelName, build, parse
from lumora.models.preprocessing import Preprocessing

__all__ = [
    "EMBEDDED",
    "BackboneClassifier",
    "BackboneSegmenter",
    "Base",
    "Facts",
    "Features",
    "ModelName",
    "MultiScaleHead",
    "Preprocessing",
    "build",
    "find_features",
    "load_base",
    "parse",
]
