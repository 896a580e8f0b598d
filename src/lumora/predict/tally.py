"""What many predictions say together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lumora.data.labels import Labels


@dataclass
class Tally:
    """Counts pictures by their labels, and pixels by their classes, a line of a list of predictions at a time.

    >>> tally = Tally()
    >>> tally.add({"classes": [{"label": "sea", "pixels": 3, "share": 0.75}]})
    >>> tally.summary(Labels(("sky", "sea")))
    {'labels': {'sea': 1}, 'pixels': {'sea': 3}}
    """

    labels: Counter[str] = field(default_factory=Counter[str])
    pixels: Counter[str] = field(default_factory=Counter[str])
    compared: int = 0
    disagreement: float = 0.0
    """Of all pictures that were compared, added up."""
    most: tuple[float, str] = (0.0, "")
    """The picture in which it is largest."""

    def add(self, line: Mapping[str, Any]) -> None:
        """Count what one picture's line says."""
        if "disagreement" in line:
            self.compared += 1
            self.disagreement += line["disagreement"]
            self.most = max(self.most, (line["disagreement"], str(line["picture"])))
        self.labels.update(line.get("labels", ()))
        for one in line.get("classes", ()):
            self.labels[one["label"]] += 1
            self.pixels[one["label"]] += one["pixels"]

    def summary(self, labels: Labels) -> dict[str, Any]:
        """The counts, in the labels' order, as values that JSON knows."""
        counts = {"labels": self.labels, "pixels": self.pixels}
        apart = {"disagreement": self.disagreement / self.compared, "most_in": self.most[1]} if self.compared else {}
        return apart | {
            name: {label: count[label] for label in labels.names if count[label]}
            for name, count in counts.items()
            if count or name == "labels"
        }
