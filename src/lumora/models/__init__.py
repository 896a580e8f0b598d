"""From the name of a model to the model, and what could be adapted in it."""

from lumora.models.names import ModelName, build, parse

__all__ = ["ModelName", "build", "parse"]
