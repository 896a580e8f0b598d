"""Measuring a model on pictures that it did not learn from."""

from lumora.tasks.evaluating import evaluate

__all__ = ["evaluate"]
