"""Generated landscapes: pictures with exact masks and a kind, from a seed alone."""

from lumora.data.scenes.files import write_scenes
from lumora.data.scenes.names import CLASSES, KINDS, PALETTE
from lumora.data.scenes.scene import Scene, scene
from lumora.data.scenes.source import SceneSample, scenes

__all__ = ["CLASSES", "KINDS", "PALETTE", "Scene", "SceneSample", "scene", "scenes", "write_scenes"]
