"""Proof that adapters are live: one sample forward and backward, and every layer merged and compared."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lumora.errors import AdapterError
from lumora.lora import inject
from lumora.lora.layers import LentLinear, LoraLayer


@dataclass
class Report:
    """What `verify` found, by paths. `ok` when every adapter was reached, learns, and merges to the same output."""

    checked: int = 0
    """How many modules: adapted ones and those that are trained whole."""
    not_reached: list[str] = field(default_factory=list[str])
    without_gradient: list[str] = field(default_factory=list[str])
    merge_differs: dict[str, float] = field(default_factory=dict[str, float])
    """Path -> largest difference between the merged and the unmerged output, relative to the output's size."""
    not_mergeable: dict[str, str] = field(default_factory=dict[str, str])
    """Path -> why; no failure, since the adapter works unmerged."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.not_reached or self.without_gradient or self.merge_differs)

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        modules = "1 module" if self.checked == 1 else f"{self.checked} modules"
        lines = [f"{modules} checked: " + ("all adapters are live." if self.ok else "NOT all adapters are live.")]
        lines += [f"  not reached by the forward pass: {path}" for path in self.not_reached]
        lines += [f"  gets no gradient: {path}" for path in self.without_gradient]
        lines += [f"  merges to something else: {path} (off by {d:.1e})" for path, d in self.merge_differs.items()]
        lines += [f"  cannot be merged: {path}: {why}" for path, why in self.not_mergeable.items()]
        return "\n".join(lines)


def verify(model: nn.Module, sample: Sequence[Any], named: Mapping[str, Any], tolerance: float) -> Report:
    """Check every active adapter of a model; leave the model, its gradients and the random state as they were."""
    layers = {path: m for path, m in _inside(model).named_modules() if isinstance(m, inject.WRAPPERS)}
    layers = {path: m for path, m in layers.items() if m.active_adapters}
    if not layers:
        raise AdapterError("There is no active adapter to verify.")
    if any(m.disable_adapters or (isinstance(m, LoraLayer) and m.merged) for m in layers.values()):
        raise AdapterError("Adapters are merged or disabled; unmerge or enable them before verifying.")
    report = Report(checked=len(layers))
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng())
        stack.enter_context(_modes_kept(model))
        stack.enter_context(_values_kept(model, layers.values()))
        model.eval()
        inputs = stack.enter_context(_inputs_caught(layers))
        with torch.enable_grad():
            args, kwargs = _detached((sample, dict(named)))
            _backward(model(*args, **kwargs))
        for path, layer in layers.items():
            learns = any(p.grad is not None and p.grad.abs().sum() > 0 for p in _parameters(layer))
            if path not in inputs and not _counts_uncalled(layer, learns):
                report.not_reached.append(path)
            elif not learns:
                report.without_gradient.append(path)
    # The values are perturbed anew here, since merging an adapter that is still zero would prove nothing.
    with torch.random.fork_rng(), _modes_kept(model), _values_kept(model, layers.values()), torch.no_grad():
        model.eval()
        for path, layer in layers.items():
            if isinstance(layer, LentLinear) and path not in inputs:
                _check_lent_merge(path, layer, tolerance, report)
            elif isinstance(layer, LoraLayer) and path in inputs:
                _check_merge(path, layer, inputs[path], tolerance, report)
    return report


def _counts_uncalled(layer: inject.Wrapper, learns: bool) -> bool:
    """Whether a layer that is not called may count all the same: who reads its weight gets the adapted one."""
    return isinstance(layer, LentLinear) or (learns and not isinstance(layer, LoraLayer))


def _check_merge(path: str, layer: LoraLayer, caught: tuple[Any, Any], tolerance: float, report: Report) -> None:
    if problem := layer.why_not_merge(layer.active_adapters):
        report.not_mergeable[path] = problem
        return
    args, kwargs = caught
    before = _tensors(layer(*args, **kwargs))
    layer.merge()
    try:
        after = _tensors(layer(*args, **kwargs))
    finally:
        layer.unmerge()
    _compare(path, before, after, tolerance, report)


def _check_lent_merge(path: str, layer: LentLinear, tolerance: float, report: Report) -> None:
    """A layer that is never called lends its weight: the adapted one has to be the merged one."""
    before = layer.weight
    layer.merge()
    try:
        after = layer.weight.clone()
    finally:
        layer.unmerge()
    _compare(path, [before], [after], tolerance, report)


def _compare(path: str, before: list[Tensor], after: list[Tensor], tolerance: float, report: Report) -> None:
    for x, y in zip(before, after, strict=True):
        size = x.float().abs().max().clamp_min(1e-6)
        difference = float((x.float() - y.float()).abs().max() / size)
        precision = {torch.bfloat16: 0.05, torch.float16: 0.01}.get(x.dtype, tolerance)
        if not difference <= precision:
            report.merge_differs[path] = difference


def _backward(output: Any) -> None:
    """Send a random gradient back from everything the model gives; a plain sum may have none (softmax, norms)."""
    total = torch.zeros(())
    generator = torch.Generator().manual_seed(0)
    for tensor in _tensors(output):
        if tensor.requires_grad and tensor.is_floating_point():
            weights = torch.randn(tensor.shape, generator=generator).to(tensor)
            total = total + (tensor * weights).sum().float().cpu()
    if not total.requires_grad:
        raise AdapterError("The model's output does not depend on anything trainable; are inference modes in the way?")
    total.backward()


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [t for v in value.values() for t in _tensors(v)]
    if isinstance(value, list | tuple):
        return [t for v in value for t in _tensors(v)]
    return []


@contextmanager
def _inputs_caught(layers: Mapping[str, nn.Module]) -> Generator[dict[str, tuple[Any, Any]]]:
    """Remember what each layer is first called with."""
    inputs: dict[str, tuple[Any, Any]] = {}

    def catcher(path: str) -> Any:
        def catch(_: nn.Module, args: Any, kwargs: Any) -> None:
            inputs.setdefault(path, _detached((args, kwargs)))

        return catch

    handles = [m.register_forward_pre_hook(catcher(path), with_kwargs=True) for path, m in layers.items()]
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()


def _detached(value: Any) -> Any:
    """Detach every tensor; the same tensor stays the same object, since attention asks whether its inputs are one."""
    done: dict[int, Tensor] = {}

    def walk(item: Any) -> Any:
        if isinstance(item, Tensor):
            return done.setdefault(id(item), item.detach())
        if isinstance(item, dict):
            return {k: walk(v) for k, v in item.items()}
        if isinstance(item, list | tuple) and type(item) in (list, tuple):
            return type(item)(walk(v) for v in item)
        return item

    return walk(value)


@contextmanager
def _modes_kept(model: nn.Module) -> Generator[None]:
    modes = {m: m.training for m in model.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _values_kept(model: nn.Module, layers: Any) -> Generator[None]:
    """Inside, adapters train and none of their factors is zero; afterwards everything is as before."""
    layers = list(layers)
    gradients = {p: p.grad for p in model.parameters()}
    kept = {p: (p.detach().clone(), p.requires_grad) for layer in layers for p in _parameters(layer)}
    generator = torch.Generator().manual_seed(0)
    try:
        for parameter in gradients:
            parameter.grad = None  # rather than added to: these may be a training step's
        for parameter, (value, _) in kept.items():
            parameter.requires_grad_(True)
            if not value.any():
                with torch.no_grad():
                    noise = torch.randn(parameter.shape, generator=generator) * 0.02
                    parameter.copy_(noise)
        yield
    finally:
        with torch.no_grad():
            for parameter, (value, wanted) in kept.items():
                parameter.copy_(value)
                parameter.requires_grad_(wanted)
            for parameter, gradient in gradients.items():
                parameter.grad = gradient


def _parameters(layer: inject.Wrapper) -> Iterator[nn.Parameter]:
    for name in layer.active_adapters:
        if isinstance(layer, LoraLayer):
            yield from layer.parameters_of(name)
        else:
            yield from (p for p in layer.modules_to_save[name].parameters() if p.is_floating_point())


def _inside(model: nn.Module) -> nn.Module:
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
