"""Metrics that stream: they keep counts on the device, never predictions."""

from __future__ import annotations

from lumora.tasks.metrics.base import Metrics, Scores
from lumora.tasks.metrics.classification import ClassificationMetrics, MultiLabelMetrics
from lumora.tasks.metrics.segmentation import CSURKA, SegmentationMetrics

__all__ = ["CSURKA", "ClassificationMetrics", "Metrics", "MultiLabelMetrics", "Scores", "SegmentationMetrics"]
