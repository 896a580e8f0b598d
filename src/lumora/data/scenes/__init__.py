"""Generated landscapes: pictures with exact masks and a kind, from a seed alone."""

from lumora.data.scenes.names import CLASSES, KINDS, PALETTE
from lumora.data.scenes.scene import Scene, scene

__all__ = ["CLASSES", "KINDS", "PALETTE", "Scene", "scene"]
