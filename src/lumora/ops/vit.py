"""The last block of a vision transformer for the first tokens only, where a classifier reads nothing else.

A block's queries, its output projection and its MLP work token by token. The class token's output needs the keys and
values of all tokens, but only its own query, projection and MLP: of about 12 D² multiplications per token and block,
2 D² remain for the others.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from lumora.ops.swap import has_hooks, plain_class

# Classifier -> how many tokens in front its head reads.
TOKENS_READ = {
    "ViTForImageClassification": 1,
    "ViTMSNForImageClassification": 1,
    "DeiTForImageClassification": 1,
    "DeiTForImageClassificationWithTeacher": 2,
}
_CAPTURING = "transformers.utils.output_capturing"


class _Reading(threading.local):
    """Which block may leave out tokens in the call that this thread is in, and how many are read."""

    def __init__(self) -> None:
        # In each thread's own dictionary from the start: the compiler guards on what it finds there.
        self.block: nn.Module | None = None
        self.tokens = 0


_reading = _Reading()


def backbone(model: Any) -> Any:
    """The part of a classifier that gives the tokens."""
    return getattr(model, type(model).base_model_prefix)


def class_token_classifier(model: Any, plain: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The forward pass of a classifier that reads only the first tokens: the last block gives no others.

    Where anything else is asked for (hidden states, attentions) or watched by a hook, it is the plain one.
    """
    if len(args) > 2 or _reads_more(model, kwargs):
        return plain(*args, **kwargs)
    with _only_first(backbone(model).layers[-1], TOKENS_READ[plain_class(model).__name__]):
        return plain(*args, **kwargs)


def call_block(block: nn.Module, plain: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Hand on what the classifier said as an argument, so that it also holds when a checkpoint runs the block again."""
    if _reading.block is block:
        kwargs["first"] = _reading.tokens
    return plain(*args, **kwargs)


def first_tokens_block(
    block: Any,
    plain: Callable[..., Tensor],
    hidden_states: Tensor,
    attention_mask: Tensor | None = None,
    *args: Any,
    first: int | None = None,
    **kwargs: Any,
) -> Tensor:
    """The forward pass of a block, for its `first` tokens only if that is given."""
    if first is None:
        return plain(hidden_states, attention_mask, *args, **kwargs)
    normed = block.layernorm_before(hidden_states)
    attended = _attention(block.attention, normed, attention_mask, first, **kwargs)
    x = block.dropout(attended) + hidden_states[:, :first]
    return block.dropout(block.mlp(block.layernorm_after(x))) + x


def _attention(attention: Any, tokens: Tensor, mask: Tensor | None, first: int, **kwargs: Any) -> Tensor:
    """What the first tokens take from all: (batch, first, channels)."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)  # (batch, heads, tokens, channels)

    eager = sys.modules[type(attention).__module__].eager_attention_forward  # type: ignore[attr-defined]
    attend = ALL_ATTENTION_FUNCTIONS.get_interface(attention.config._attn_implementation, eager)
    taken, _ = attend(
        attention,
        heads(attention.q_proj(tokens[:, :first])),
        heads(attention.k_proj(tokens)),
        heads(attention.v_proj(tokens)),
        None if mask is None else mask[..., :first, :],
        dropout=attention.attention_dropout if attention.training else 0.0,
        scaling=attention.scaling,
        **kwargs,
    )
    return attention.o_proj(taken.flatten(2))


@contextmanager
def _only_first(block: nn.Module, tokens: int) -> Generator[None]:
    before = _reading.block, _reading.tokens
    _reading.block, _reading.tokens = block, tokens
    try:
        yield
    finally:
        _reading.block, _reading.tokens = before


def _reads_more(model: Any, arguments: dict[str, Any]) -> bool:
    """Whether anything but the classifier's own tokens is wanted from the backbone."""
    inside = backbone(model)
    for name in ("output_hidden_states", "output_attentions"):
        asked = arguments.get(name)
        if getattr(model.config, name, False) if asked is None else asked:
            return True
    if inside.config._attn_implementation not in ("eager", "sdpa"):
        return True
    watched = (inside, inside.layernorm, *inside.layers[-1].modules())
    return any(has_hooks(module, besides=_CAPTURING) for module in watched)
