"""One call that gives a stock transformers model the cheaper arithmetic that fits it, and takes it back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from lumora.errors import InputError
from lumora.ops import segformer, vit
from lumora.ops.swap import is_covered, is_swapped, plain_class, swap, swap_back

_HEAD = "runs the fusing convolution before the upsampling; folds the batch norm in evaluation"
_LOSS = "computes the loss in tiles, without full-size logits"


@dataclass(frozen=True)
class Change:
    """One module that computes the same in another way."""

    path: str
    kind: str
    what: str

    def __str__(self) -> str:
        return f"{self.path or '(the model)'} ({self.kind}) {self.what}"


@dataclass
class Accelerated:
    """What `accelerate` changed; print it to see. `undo()` makes the model compute as before."""

    model: nn.Module
    changes: tuple[Change, ...] = ()
    left: tuple[Change, ...] = field(default=())
    """Modules of a known kind that were left as they are, and why."""

    def undo(self) -> None:
        """Give every module of the model its own forward pass again, copies made since then too."""
        if covered := [path or "the model" for path, module in self.model.named_modules() if is_covered(module)]:
            raise InputError(
                f"{', '.join(covered)}: given another class since then, by fully_shard() for instance, so what was "
                "changed cannot be taken back any more. Call undo() before."
            )
        for module in self.model.modules():
            if is_swapped(module):
                swap_back(module)
        self.changes = ()

    def __str__(self) -> str:
        count = len(self.changes)
        lines = [f"{count} module{'s' if count != 1 else ''} made cheaper." if count else "Nothing to make cheaper."]
        lines += [f"  {change}" for change in self.changes]
        lines += [f"  left as it is: {change}" for change in self.left]
        return "\n".join(lines)


def accelerate(model: nn.Module) -> Accelerated:
    """Let a stock transformers model compute the same with less, where a technique of this package fits it.

    - `SegformerForSemanticSegmentation`: its loss in tiles, its decode head commuted.
    - `ViTForImageClassification`, `DeiTForImageClassification` (with a teacher, too), `ViTMSNForImageClassification`:
      the last block for the tokens that the head reads.

    The model may be wrapped (by `get_peft_model`, say) before or after, and its layers may carry adapters. Parameters,
    buffers and the keys of the state dict stay as they are. Classes are matched exactly: a subclass with a forward pass
    of its own is not touched. Calling it again finds nothing left to do.

    >>> print(accelerate(nn.Linear(2, 2)))
    Nothing to make cheaper.
    """
    changes: list[Change] = []
    left: list[Change] = []
    for path, module in list(model.named_modules()):
        if is_swapped(module):
            continue
        match _stock_name(module):
            case "segformer", "SegformerForSemanticSegmentation":
                swap(module, segformer.tiled_loss)
                changes.append(Change(path, plain_class(module).__name__, _LOSS))
            case "segformer", "SegformerDecodeHead":
                _change_head(path, module, changes, left)
            case "vit" | "deit" | "vit_msn", name if name in vit.TOKENS_READ:
                _change_classifier(path, module, changes, left)
            case _:
                pass
    return Accelerated(model, tuple(changes), tuple(left))


def _stock_name(module: nn.Module) -> tuple[str, str]:
    """The architecture and the class of a module that is exactly one of transformers' own."""
    place = type(module).__module__.split(".")
    if place[:2] != ["transformers", "models"] or len(place) < 3:
        return "", ""
    return place[2], type(module).__name__


def _change_head(path: str, head: nn.Module, changes: list[Change], left: list[Change]) -> None:
    name = type(head).__name__
    if missing := _missing(head, "linear_projections linear_fuse batch_norm activation dropout classifier"):
        left.append(Change(path, name, f"has no {missing} in this version of transformers"))
        return
    swap(head, segformer.commuted_head)
    changes.append(Change(path, name, _HEAD))


def _change_classifier(path: str, model: nn.Module, changes: list[Change], left: list[Change]) -> None:
    name, inside = type(model).__name__, vit.backbone(model)
    if missing := _missing(inside, "layers layernorm"):
        left.append(Change(path, name, f"has no {missing} in this version of transformers"))
        return
    block: Any = inside.layers[-1]
    if _stock_name(block)[1] not in ("ViTLayer", "DeiTLayer", "ViTMSNLayer"):
        left.append(Change(path, name, f"ends in a {type(block).__name__}, which is not transformers' own"))
        return
    parts = "attention layernorm_before layernorm_after mlp dropout"
    of_attention = "q_proj k_proj v_proj o_proj head_dim scaling attention_dropout"
    if missing := _missing(block, parts) or _missing(block.attention, of_attention):
        left.append(Change(path, name, f"has no {missing} in its last block in this version of transformers"))
        return
    swap(model, vit.class_token_classifier)
    swap(block, vit.first_tokens_block, vit.call_block)
    tokens = "the class token" if vit.TOKENS_READ[name] == 1 else f"the {vit.TOKENS_READ[name]} tokens that it reads"
    changes.append(Change(path, name, f"computes its last block for {tokens} only"))


def _missing(module: nn.Module, names: str) -> str | None:
    return next((name for name in names.split() if not hasattr(module, name)), None)
