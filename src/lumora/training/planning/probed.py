"""What a training in small took, as it was measured in a process of its own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Probed:
    """Seconds and bytes. None stands for what the system does not tell."""

    first_steps: list[float]
    """Seconds of steps whose pictures are decoded."""
    later_steps: list[float]
    """Seconds of steps whose pictures were decoded before; empty where there was no time for any."""
    evaluation: float
    """Seconds for a picture, decoded before; 0 where there is none for validation."""
    evaluated: int
    """Pictures of an evaluation."""
    before: float
    """Seconds until the first step: importing, opening, loading, proving, a first evaluation."""
    between: float
    """Seconds from one epoch to the next: a checkpoint, and pictures that are drawn."""
    after: float
    """Seconds from the last epoch to the verified bundle, a last evaluation among them."""
    most_held: int | None
    """The most that the process held at once, decoded pictures left out."""
    held_before: int | None
    """When the first step began: the model and all that is needed to run it."""
    held_after: int | None
    """At the end."""
    readers: int
    """Of all processes that read pictures, together."""
    on_device: int | None
    """The most that was taken of the GPU's memory; None where the CPU computes."""
    fingerprint: str | None
    """Of the base."""
    notes: list[str]
    """What the training told of its steps."""
