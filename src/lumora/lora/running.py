"""What running an adapted model asks for: an adapter for each sample of a batch, gradients through checkpoints."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from lumora.errors import RoutingError
from lumora.lora import inject, routing

if TYPE_CHECKING:
    from lumora.lora.model import PeftModel


@contextmanager
def routed(
    model: PeftModel, adapter_names: Sequence[str], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Generator[None]:
    """Inside, each sample of the batch in these arguments goes through the adapter that is named for it."""
    names = list(adapter_names)
    if model.training:
        raise RoutingError("adapter_names works in eval mode only; call model.eval() first.")
    if any(layer.merged for layer in inject.lora_layers(model)):
        raise RoutingError("adapter_names cannot choose while adapters are merged; call unmerge_adapter() first.")
    if unknown := sorted({n for n in names if n != routing.BASE and n not in model.peft_config}):
        raise RoutingError(f"adapter_names has unknown names {unknown}; there are {list(model.peft_config)}.")
    first = next((a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)), None)
    if not names or (first is not None and first.dim() and first.shape[0] != len(names)):
        size = "unknown size" if first is None else first.shape[0]
        raise RoutingError(f"adapter_names has {len(names)} entries for a batch of {size}; give one for each sample.")
    sequence_first = any(isinstance(m, nn.MultiheadAttention) and not m.batch_first for m in model.modules())
    with routing.following(names, sequence_first):
        yield


def feed_checkpoints(model: nn.Module) -> None:
    """Let gradients through checkpoints of the reentrant kind, which pass none on if none of their inputs wants any.

    In a frozen base no input does; transformers can make the embeddings' output want some.
    """
    functions = (getattr(module, "_gradient_checkpointing_func", None) for module in model.modules())
    enable = getattr(model, "enable_input_require_grads", None)
    if callable(enable) and any(getattr(f, "keywords", {}).get("use_reentrant") for f in functions):
        enable()
