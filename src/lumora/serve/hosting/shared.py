"""A base that is loaded once, and computes batches in which each sample belongs to a bundle of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lumora.bundle import About, proof
from lumora.bundle.precision import full_precision
from lumora.errors import RoutingError
from lumora.lora.names import is_inside_any
from lumora.models import Base
from lumora.models.heads import put
from lumora.serve.hosting.addition import Addition
from lumora.serve.hosting.extracting import NotSharedError, Structures
from lumora.serve.hosting.places import ModulePlace, NormPlace, Place, Riders, place_for
from lumora.tasks.base import logits_of

LOG = logging.getLogger("lumora.serve.hosting")


class SharedBase:
    """A base under any number of bundles. One batch is computed at a time.

    Args:
        base: as `load_base` gave it; its module is the pool's from now on.
        device: where it computes.
        alike: one with the same weights, under another kind of head, on the same device; the two keep them once.
    """

    def __init__(self, base: Base, device: torch.device, alike: SharedBase | None = None) -> None:
        self.fingerprint = base.fingerprint
        if alike is not None and base.fingerprint is not None:
            _take_weights(base, alike)
        self.model = base.module.to(device).eval().requires_grad_(False)
        self.structures = Structures()
        self.weights = _weights(base)
        self.originals: dict[str, nn.Module] = dict(self.model.named_modules())
        """The base's own modules by their paths, whatever stands there now."""
        self.device = device
        like = next((p for p in self.model.parameters() if p.is_floating_point()), torch.zeros(0))
        self._dtype = like.dtype
        attentions = (m for m in self.model.modules() if isinstance(m, nn.MultiheadAttention))
        self._riders = Riders(sequence_first=any(not m.batch_first for m in attentions))
        self._places: dict[str, Place] = {}
        self._turn = threading.Lock()
        self._apart: set[torch.Size] = set()
        """Sizes of batches whose samples a layer does not tell apart, as a batch of 16 where there are 16 tokens."""

    @property
    def mixes(self) -> bool:
        """Whether samples of several bundles went through together so far, and never one bundle after the other."""
        return not self._apart

    def prepare(self, addition: Addition) -> None:
        """Make places for all that a bundle adds; what has none is an error, and nothing was changed then."""
        made: dict[str, Place] = {}
        wanted = [(path, False) for path in addition.updates] + [(path, True) for path in addition.modules]
        for path, whole in wanted:
            if (there := self._places.get(path)) is not None:
                if isinstance(there, NormPlace | ModulePlace) != whole:
                    raise NotSharedError(f"{path} is trained whole by one bundle and adapted by another.")
                continue
            if any(path.startswith(f"{other}.") or other.startswith(f"{path}.") for other in (*self._places, *made)):
                raise NotSharedError(f"{path} lies in a module that another bundle trains whole, or holds one.")
            if (place := place_for(self.originals[path], path, self._riders, whole=whole)) is None:
                raise NotSharedError(f"{path} is a {type(self.originals[path]).__name__} of a kind that is not shared.")
            made[path] = place.eval()
        with self._turn:
            for path, place in made.items():
                put(self.model, path, place)
            self._places |= made

    def logits(self, pixels: Tensor, additions: Sequence[Addition]) -> Tensor:
        """What the base gives for normalised pixels (B, 3, H, W) with these additions, one for each sample.

        Logits are (B, most labels, …); where a bundle has fewer labels than another, the rest of its row is zeros.
        """
        with self._turn, torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            pixels = pixels.to(self.device, self._dtype)
            if pixels.shape not in self._apart or len(set(additions)) == 1:
                try:
                    return self._run(pixels, additions)
                except RoutingError as error:
                    self._keep_apart(pixels.shape, error)
            return self._one_by_one(pixels, additions)

    def prove(self, addition: Addition, about: About) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What a bundle's proof must be, of the base with this addition: alone, and in batches with another one."""
        pictures = about.at_size.normalise(proof.pictures(about.size))
        twice, other = pictures.repeat_interleave(2, 0), Addition()
        with full_precision():
            alone = self.logits(pictures, [addition] * len(pictures))
            mixed = self.logits(twice, [addition, other] * len(pictures))[::2, : len(about.labels)]
        return proof.of_logits(alone.float().cpu(), about), proof.of_logits(mixed.float().cpu(), about)

    def tolerance(self) -> float:
        """What counts as rounding when proofs are compared."""
        return proof.tolerance_of(self.model)

    def _keep_apart(self, size: torch.Size, error: RoutingError) -> None:
        if not self._apart:
            LOG.warning("batches of this size are computed one bundle after the other: %s; %s", list(size), error)
        self._apart.add(size)

    def _run(self, pixels: Tensor, additions: Sequence[Addition]) -> Tensor:
        self._riders.board(additions)
        try:
            return logits_of(self.model(pixels))
        finally:
            self._riders.board(())

    def _one_by_one(self, pixels: Tensor, additions: Sequence[Addition]) -> Tensor:
        """The same, one bundle after the other: for bases whose layers do not tell the samples apart."""
        rows: dict[Addition, list[int]] = {}
        for i, addition in enumerate(additions):
            rows.setdefault(addition, []).append(i)
        parts = {addition: self._run(pixels[own], [addition] * len(own)) for addition, own in rows.items()}
        first = next(iter(parts.values()))
        whole = first.new_zeros(len(additions), max(part.shape[1] for part in parts.values()), *first.shape[2:])
        for addition, own in rows.items():
            whole[own, : parts[addition].shape[1]] = parts[addition]
        return whole


def _weights(base: Base) -> list[tuple[str, Tensor]]:
    """The tensors that the fingerprint is of, in its order, under their names in the module."""
    found = sorted(base.module.state_dict(keep_vars=True).items(), key=lambda item: item[0])
    return [(name, tensor) for name, tensor in found if not is_inside_any(name, base.heads)]


def _take_weights(base: Base, alike: SharedBase) -> None:
    """Put another base's tensors in the place of equal ones. The same fingerprint says that all are, in this order."""
    for (name, own), (_, other) in zip(_weights(base), alike.weights, strict=True):
        if own.shape == other.shape and own.dtype == other.dtype:
            path, _, attribute = name.rpartition(".")
            owner = base.module.get_submodule(path)
            kept = owner._parameters if attribute in owner._parameters else owner._buffers
            kept[attribute] = other  # type: ignore[assignment]
