"""Putting a pretrained model and a fresh head together, for each library."""

from lumora.models.assembly.named_models import of_name
from lumora.models.assembly.ready_models import of_module
from lumora.models.assembly.wish import Built, HeadChoice, TaskName, Wish

__all__ = ["Built", "HeadChoice", "TaskName", "Wish", "of_module", "of_name"]
