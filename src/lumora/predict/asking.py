"""Asking a model about pictures: what it sees of them, and what it answers, mirrored too if wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lumora.data.sample import TaskName
from lumora.lora import PeftModel
from lumora.models import Preprocessing
from lumora.tasks.base import logits_of


@dataclass(frozen=True, eq=False)
class Asking:
    """A model with what must be known to ask it."""

    model: nn.Module
    """In eval mode."""
    task: TaskName
    preprocessing: Preprocessing
    """What is done to a picture before the model sees it."""
    flip: bool = False
    """Whether every picture is shown mirrored as well, and the two answers averaged."""
    adapter: str | None = None
    """Where several adapters share the base, the one that is asked."""

    def framed(self, pixels: Tensor) -> Tensor:
        """What the model sees of a picture, still `uint8`."""
        return self.preprocessing.framed(pixels)

    def logits(self, framed: Sequence[Tensor]) -> Tensor:
        """What the model gives; in its own precision, whatever is set around."""
        like = self.like
        self.choose_adapter()
        pixels = self.preprocessing.normalise(torch.stack(list(framed)).to(like.device)).to(like.dtype)
        with torch.no_grad(), torch.autocast(like.device.type, enabled=False):
            logits = logits_of(self.model(pixels))
            if not self.flip:
                return logits
            mirrored = logits_of(self.model(pixels.flip(-1)))
        if mirrored.dim() == 4:
            mirrored = mirrored.flip(-1)
        return mean_answer([logits, mirrored], several=self.task == "multilabel")

    @property
    def like(self) -> Tensor:
        """A tensor of the type that the model takes."""
        return next((p for p in self.model.parameters() if p.is_floating_point()), torch.zeros(0))

    def choose_adapter(self) -> None:
        """Let the model answer with the adapter that is asked."""
        if self.adapter is None or not isinstance(self.model, PeftModel):
            return
        if self.model.active_adapters != [self.adapter]:
            self.model.set_adapter(self.adapter)


def mean_answer(logits: Sequence[Tensor], *, several: bool) -> Tensor:
    """Logits whose probabilities are the mean of those of some answers; classes are the second dimension.

    Args:
        logits: of one shape.
        several: whether each label has a probability of its own.

    >>> answers = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    >>> torch.allclose(mean_answer(answers, several=False).softmax(1), sum(a.softmax(1) for a in answers) / 2)
    True
    """
    stack = torch.stack([one.float() for one in logits])
    if several:
        yes, no = (torch.nn.functional.logsigmoid(way * stack).logsumexp(0) for way in (1, -1))
        return yes - no
    return stack.log_softmax(2).logsumexp(0) - torch.log(torch.tensor(float(len(stack))))
