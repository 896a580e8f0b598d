"""Losses and predictions at full size from small logits, a tile at a time."""

from lumora.ops.upsampled.losses import upsampled_cross_entropy as upsampled_cross_entropy
from lumora.ops.upsampled.losses import upsampled_cross_entropy_and_dice as upsampled_cross_entropy_and_dice
