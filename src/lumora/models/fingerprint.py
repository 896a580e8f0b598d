"""A short name for a model's weights: equal for equal weights, whatever adapters are in the model.

The fingerprint is the SHA-256 of one line for each tensor of the state dict, sorted by name:

    name TAB dtype TAB shape TAB SHA-256 of the values

Names count from the module that holds all of them, so that a backbone has one fingerprint alone, under a classifier and
under a segmentation head. Values are the tensor's bytes in row-major order, little-endian. Weights held in another
type (`float16` instead of `float32`) are other weights.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from lumora.lora.layers import LoraLayer
from lumora.lora.model import PeftModel
from lumora.lora.names import is_inside_any
from lumora.lora.saved import AuxiliaryTrainingWrapper
from lumora.lora.targets import base_modules

_PREFIX = "sha256:"


def fingerprint(model: nn.Module, leave_out: Collection[str] = ()) -> str | None:
    """The fingerprint of a model's own weights; None when there are none (on the meta device).

    Adapters do not count, injected, merged or trained; nor does what lies under the paths in `leave_out` (a new head).
    Initialisations that change the base (PiSSA, OLoRA) and biases trained in place do count: take it before.

    Costs: one pass over the weights, about a second for a gigabyte. Tensors that do not lie in one piece in the
    computer's memory are copied, one for each core at a time.

    >>> one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    >>> fingerprint(one) == fingerprint(other)
    False
    >>> other.load_state_dict(one.state_dict())
    <All keys matched successfully>
    >>> fingerprint(one) == fingerprint(nn.Sequential(other))
    True
    """
    return of_tensors((name, tensor) for name, tensor in base_tensors(model) if not is_inside_any(name, leave_out))


def of_tensors(named: Iterable[tuple[str, Tensor]]) -> str | None:
    """The same of tensors under their names."""
    tensors = sorted(named, key=lambda one: one[0])
    if not tensors or any(tensor.is_meta for _, tensor in tensors):
        return None
    start = _shared_start([name for name, _ in tensors])
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashlib lets other threads run meanwhile
        digests = pool.map(_digest, [tensor for _, tensor in tensors])
    whole = hashlib.sha256()
    for (name, tensor), digest in zip(tensors, digests, strict=True):
        dtype, shape = str(tensor.dtype).removeprefix("torch."), ",".join(map(str, tensor.shape))
        whole.update(f"{name[start:]}\t{dtype}\t{shape}\t{digest}\n".encode())
    return _PREFIX + whole.hexdigest()


def base_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What the state dict holds without adapters, under the names it has there; merged weights as they were before."""
    if isinstance(model, PeftModel):
        model = model.get_base_model()
    for path, module in (("", model), *base_modules(model)):
        inside: nn.Module = module
        if isinstance(module, LoraLayer):
            inside = module.base_layer
        elif isinstance(module, AuxiliaryTrainingWrapper):
            inside = module.original_module
        own = {**inside._parameters, **inside._buffers}
        for name, tensor in own.items():
            if tensor is None or name in inside._non_persistent_buffers_set:
                continue
            value = module._original(name) if isinstance(module, LoraLayer) else tensor
            yield (f"{path}.{name}" if path else name), value.detach()


def _digest(tensor: Tensor) -> str:
    flat = tensor.cpu().contiguous().reshape(-1)
    return hashlib.sha256(flat.view(torch.uint8).numpy().data if flat.numel() else b"").hexdigest()


def _shared_start(names: list[str]) -> int:
    """How many characters the part takes that all names share, up to and with a dot."""
    owners = [name.split(".")[:-1] for name in names]
    shared = itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*owners, strict=False))
    return sum(len(parts[0]) + 1 for parts in shared)
