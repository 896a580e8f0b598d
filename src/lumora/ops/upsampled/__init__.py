"""Losses and predictions at full size from small logits, a tile at a time."""

from lumora.ops.upsampled.losses import upsampled_cross_entropy as upsampled_cross_entropy
from lumora.ops.upsampled.losses import upsampled_cross_entropy_and_dice as upsampled_cross_entropy_and_dice
from lumora.ops.upsampled.predictions import ProbabilityTile as ProbabilityTile
from lumora.ops.upsampled.predictions import upsampled_argmax as upsampled_argmax
from lumora.ops.upsampled.predictions import upsampled_confidence as upsampled_confidence
from lumora.ops.upsampled.predictions import upsampled_probabilities as upsampled_probabilities
from lumora.ops.upsampled.predictions import upsampled_probability_tiles as upsampled_probability_tiles
