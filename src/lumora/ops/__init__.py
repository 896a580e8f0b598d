"""Exact arithmetic, done cheaper."""

from lumora.ops.accelerate import Accelerated as Accelerated
from lumora.ops.accelerate import accelerate as accelerate
from lumora.ops.upsampled import ProbabilityTile as ProbabilityTile
from lumora.ops.upsampled import upsampled_argmax as upsampled_argmax
from lumora.ops.upsampled import upsampled_confidence as upsampled_confidence
from lumora.ops.upsampled import upsampled_cross_entropy as upsampled_cross_entropy
from lumora.ops.upsampled import upsampled_cross_entropy_and_dice as upsampled_cross_entropy_and_dice
from lumora.ops.upsampled import upsampled_probabilities as upsampled_probabilities
from lumora.ops.upsampled import upsampled_probability_tiles as upsampled_probability_tiles
