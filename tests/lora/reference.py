"""What adapted layers must compute: explicit weights, put into torch's own layers.

Nothing here asks the code under test for a product, an update or a scaling. A `Case` is a layer and an input;
`explicit` is what the layer must give, differentiable in the adapters' tensors; `adapted` puts adapters on it and
draws their values.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from lumora import LoraConfig, PeftModel, get_peft_model

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class Holder(nn.Module):
    """A model that is one layer and passes every argument on."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer(*args, **kwargs)


@dataclass(frozen=True)
class Case:
    """One layer, and what it is called with."""

    name: str
    build: Callable[[], nn.Module]
    args: Callable[[], tuple[Any, ...]]
    kwargs: Callable[[], dict[str, Any]] = dict
    rank: int = 2

    @property
    def mergeable(self) -> bool:
        return getattr(self.layer(), "groups", 1) == 1

    def layer(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        """The layer, every time with the same values."""
        with seeded(1):
            layer = self.build()
            with torch.no_grad():
                for parameter in layer.parameters():
                    parameter.copy_(torch.randn(parameter.shape) / 2)
                if getattr(layer, "padding_idx", None) is not None:
                    layer.weight[layer.padding_idx] = 0
        return layer.to(dtype)

    def call(self, dtype: torch.dtype = torch.float64) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The inputs, every time the same; floating ones are leaves, and one tensor given twice stays one."""
        with seeded(2):
            args, kwargs = self.args(), self.kwargs()
        done: dict[int, Any] = {}

        def leaf(value: Any) -> Any:
            if isinstance(value, Tensor) and value.is_floating_point():
                return done.setdefault(id(value), value.to(dtype).requires_grad_())
            return value

        cast = {k: v.to(dtype) if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in kwargs.items()}
        return tuple(leaf(a) for a in args), cast

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Mode:
    """How adapters are made, one configuration for each."""

    name: str
    configs: tuple[dict[str, Any], ...] = ({},)
    fits: Callable[[Case], bool] = field(default=lambda case: True)

    @property
    def adapters(self) -> tuple[str, ...]:
        return ("default", "second", "third")[: len(self.configs)]

    def __str__(self) -> str:
        return self.name


MODES = (
    Mode("plain"),
    Mode("rslora", ({"use_rslora": True},)),
    Mode("dora", ({"use_dora": True},)),
    Mode("lora_bias", ({"lora_bias": True},), lambda case: not isinstance(case.layer(), nn.Embedding)),
    Mode("two", ({}, {"lora_alpha": 5, "use_rslora": True})),
    Mode("two_dora", ({"use_dora": True}, {"use_dora": True, "lora_alpha": 3})),
    Mode("mixed", ({"lora_alpha": 3}, {"use_dora": True})),
)
PLAIN = MODES[0]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw the same random numbers inside every time, and leave those outside alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def configured(case: Case, options: Mapping[str, Any]) -> LoraConfig:
    """A configuration for a case, with an alpha that is not the rank."""
    return LoraConfig(**{"r": case.rank, "lora_alpha": 7, "target_modules": ["layer"], **options})


def adapted(case: Case, mode: Mode = PLAIN, dtype: torch.dtype = torch.float64, **options: Any) -> PeftModel:
    """The case's layer with the mode's adapters, all active, all of their values drawn at random."""
    with seeded(3), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "adapters are larger|.*larger than the layers")
        first, *others = mode.configs
        model = get_peft_model(Holder(case.layer(dtype)), configured(case, {**first, **options}))
        for name, config in zip(mode.adapters[1:], others, strict=True):
            model.add_adapter(name, configured(case, {**config, **options}))
        model.base_model.set_adapter(list(mode.adapters))
        draw(model)
    return model.to(dtype)


def draw(model: nn.Module) -> None:
    """Random values for every tensor of every adapter: nothing stays zero, magnitudes stay positive."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_magnitude_vector" in name:
                parameter.mul_(0.5 + torch.rand(parameter.shape))
            elif "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape) / 2)
        for module in model.modules():
            if getattr(module, "padding_idx", None) is not None and hasattr(module, "lora_embedding_A"):
                for a in module.lora_embedding_A.values():
                    a[:, module.padding_idx] = 0  # as it starts and, without gradient, stays


def adapter_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The parameters of all adapters, named as below the layer."""
    start = "base_model.model.layer."
    return {n.removeprefix(start): p for n, p in model.named_parameters() if "lora_" in n}


# --- the explicit weights ---------------------------------------------------------------------------------------------


def scaling_of(config: LoraConfig) -> float:
    return config.lora_alpha / (math.sqrt(config.r) if config.use_rslora else config.r)


def output_dimension(layer: nn.Module) -> int:
    """Which dimension of a layer's weight counts outputs."""
    return 1 if isinstance(layer, (*TRANSPOSED, nn.Embedding, Conv1D)) else 0


def delta(layer: nn.Module, a: Tensor, b: Tensor, scaling: float) -> Tensor:
    """scaling * B A as a change of a (not grouped) weight."""
    if isinstance(layer, CONVOLUTIONS):
        return scaling * torch.einsum("or,ri...->oi...", spread(b, a.shape[0] // b.shape[1]), a)
    if isinstance(layer, TRANSPOSED):
        return scaling * torch.einsum("or,ir...->io...", spread(b, a.shape[1] // b.shape[1]), a)
    if isinstance(layer, (nn.Embedding, Conv1D)):
        return scaling * torch.einsum("or,ri->io", b, a)
    return scaling * torch.einsum("or,ri->oi", b, a)


def spread(b: Tensor, groups: int) -> Tensor:
    """A grouped second factor (out, r / groups, 1, ...) as the dense (out, r) that it stands for."""
    n_out, per_group = b.shape[:2]
    group = torch.arange(n_out) // (n_out // groups)
    columns = group[:, None] * per_group + torch.arange(per_group)
    return b.new_zeros(n_out, per_group * groups).scatter(1, columns, b.reshape(n_out, per_group))


def ungrouped(layer: nn.Module) -> nn.Module:
    """The same layer without groups: a convolution whose weight is zero between groups."""
    if getattr(layer, "groups", 1) == 1:
        return copy.deepcopy(layer)
    g, transposed = layer.groups, isinstance(layer, TRANSPOSED)
    geometry = {n: getattr(layer, n) for n in ("stride", "padding", "dilation", "padding_mode")}
    if transposed:
        geometry["output_padding"] = layer.output_padding
    dense = type(layer)(
        layer.in_channels, layer.out_channels, layer.kernel_size, **geometry, bias=layer.bias is not None
    ).to(layer.weight)
    i, o = layer.in_channels // g, layer.out_channels // g
    with torch.no_grad():
        dense.weight.zero_()
        for k in range(g):
            ins, outs = slice(k * i, (k + 1) * i), slice(k * o, (k + 1) * o)
            if transposed:
                dense.weight[ins, outs] = layer.weight[ins]
            else:
                dense.weight[outs, ins] = layer.weight[outs]
        if layer.bias is not None:
            dense.bias.copy_(layer.bias)
    return dense


def lengths(layer: nn.Module, weight: Tensor) -> Tensor:
    """The length of every output's part of a weight, shaped to divide it."""
    out = output_dimension(layer)
    return weight.square().sum([d for d in range(weight.dim()) if d != out], keepdim=True).sqrt()


def change(layer: nn.Module, weight: Tensor, update: Tensor, magnitude: Tensor | None) -> Tensor:
    """What one adapter adds to a weight; with DoRA, m (W + update) / |W + update| - W, the length held constant."""
    if magnitude is None:
        return update
    out = output_dimension(layer)
    shape = [-1 if d == out else 1 for d in range(weight.dim())]
    directed = (weight + update) / lengths(layer, (weight + update).detach())
    return magnitude.view(shape) * directed - weight


def projections(layer: nn.MultiheadAttention) -> dict[str, tuple[slice, slice]]:
    """The input projection weights of attention: rows of the second factor, columns of the first."""
    d = layer.embed_dim
    if layer.in_proj_weight is not None:
        return {"in_proj_weight": (slice(None), slice(None))}
    ends = [0, d, d + layer.kdim, d + layer.kdim + layer.vdim]
    return {
        f"{name}_proj_weight": (slice(i * d, (i + 1) * d), slice(ends[i], ends[i + 1])) for i, name in enumerate("qkv")
    }


def changes(layer: nn.Module, tensors: Mapping[str, Tensor], name: str, scaling: float) -> dict[str, Tensor]:
    """What one adapter adds to each of a layer's (not grouped) parameters."""
    if isinstance(layer, nn.MultiheadAttention):
        inner = {k.removeprefix("base_layer.out_proj."): v for k, v in tensors.items() if "out_proj" in k}
        of_inner = changes(layer.out_proj, inner, name, scaling) if inner else {}
        found = {f"out_proj.{k}": v for k, v in of_inner.items()}
        bias_name, weights = "in_proj_bias", projections(layer)
    else:
        found, bias_name, weights = {}, "bias", {"weight": (slice(None), slice(None))}
    a = tensors.get(f"lora_A.{name}.weight", tensors.get(f"lora_embedding_A.{name}"))
    b = tensors.get(f"lora_B.{name}.weight", tensors.get(f"lora_embedding_B.{name}"))
    magnitude = tensors.get(f"lora_magnitude_vector.{name}.weight")
    for weight_name, (rows, columns) in weights.items():
        part = a if len(weights) == 1 else a[:, columns]
        update = delta(layer, part, b[rows], scaling)
        lengths_of_these = None if magnitude is None else magnitude.flatten()[rows]
        found[weight_name] = change(layer, getattr(layer, weight_name), update, lengths_of_these)
    bias = tensors.get(f"lora_B.{name}.bias")
    if bias is not None:
        found[bias_name] = scaling * bias
    return found


def explicit(
    case: Case,
    tensors: Mapping[str, Tensor],
    scalings: Mapping[str, float],
    base: Mapping[str, Tensor],
    call: tuple[tuple[Any, ...], dict[str, Any]],
) -> Any:
    """Run torch's own layer with the adapters written into its weights.

    Args:
        case: which layer.
        tensors: the adapters' tensors, as `adapter_tensors` names them.
        scalings: what each adapter is scaled with.
        base: parameters of the layer to use instead of its own (to get their gradients).
        call: args and kwargs.
    """
    args, kwargs = call
    dtype = next(iter(tensors.values())).dtype
    layer = ungrouped(case.layer(dtype)).requires_grad_(False)
    parameters: dict[str, Tensor] = {**dict(layer.named_parameters()), **base}
    for name, scaling in scalings.items():
        for weight, amount in changes(layer, tensors, name, scaling).items():
            before = parameters.get(weight)
            parameters[weight] = amount if before is None else before + amount
    for weight in [w for w, value in parameters.items() if dict(layer.named_parameters()).get(w) is None]:
        owner, _, attribute = weight.rpartition(".")  # a bias that only adapters have
        setattr(layer.get_submodule(owner), attribute, nn.Parameter(torch.zeros_like(parameters[weight])))
    return torch.func.functional_call(layer, parameters, args, kwargs)


def tensors_in(output: Any) -> list[Tensor]:
    """The tensors of an output, in order."""
    return [output] if isinstance(output, Tensor) else [t for t in output if t is not None]


def weighted_sum(output: Any) -> Tensor:
    """A scalar that depends on every element of an output differently."""
    with seeded(4):
        return sum((t * torch.randn(t.shape).to(t)).sum() for t in tensors_in(output))


def assert_close(ours: Any, theirs: Any, dtype: torch.dtype = torch.float64) -> None:
    tolerance = {torch.float64: 1e-10, torch.float32: 2e-4}[dtype]
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


# --- the layers -------------------------------------------------------------------------------------------------------


def _noise(*shape: int, like: torch.memory_format | None = None) -> Callable[[], tuple[Tensor]]:
    def make() -> tuple[Tensor]:
        x = torch.randn(*shape)
        return (x if like is None else x.contiguous(memory_format=like),)

    return make


def _in_memory(build: Callable[[], nn.Module], memory_format: torch.memory_format) -> Callable[[], nn.Module]:
    return lambda: build().to(memory_format=memory_format)


LINEAR = [
    Case("linear", lambda: nn.Linear(5, 6), _noise(2, 5)),
    Case("linear_many_tokens", lambda: nn.Linear(5, 6), _noise(3, 7, 5)),
    Case("linear_without_bias", lambda: nn.Linear(5, 6, bias=False), _noise(2, 5)),
    Case("linear_vector", lambda: nn.Linear(5, 6), _noise(5)),
    Case("linear_transposed_input", lambda: nn.Linear(5, 6), lambda: (torch.randn(3, 5, 4).transpose(1, 2),)),
    Case("transformers_conv1d", lambda: Conv1D(6, 5), _noise(2, 5)),
    Case("transformers_conv1d_many_tokens", lambda: Conv1D(6, 5), _noise(3, 7, 5)),
]
CONV1D = [
    Case("conv1d", lambda: nn.Conv1d(3, 4, 3, stride=2, padding=1), _noise(2, 3, 6)),
    Case("conv1d_same_even_kernel", lambda: nn.Conv1d(3, 4, 4, padding="same"), _noise(2, 3, 6)),
    Case("conv1d_reflect", lambda: nn.Conv1d(3, 4, 3, padding=2, padding_mode="reflect"), _noise(2, 3, 6)),
    Case("conv1d_grouped", lambda: nn.Conv1d(4, 6, 3, groups=2), _noise(2, 4, 6)),
    Case("conv1d_pointwise", lambda: nn.Conv1d(3, 4, 1), _noise(2, 3, 6)),
    Case("conv1d_unbatched", lambda: nn.Conv1d(3, 4, 3), _noise(3, 6)),
]
CONV2D = [
    Case("conv2d_few_positions", lambda: nn.Conv2d(3, 4, 3), _noise(1, 3, 4, 4)),
    Case("conv2d_many_positions", lambda: nn.Conv2d(3, 4, 3, padding=1), _noise(2, 3, 6, 5)),
    Case("conv2d_without_bias", lambda: nn.Conv2d(3, 4, 3, bias=False), _noise(1, 3, 4, 4)),
    Case("conv2d_stride", lambda: nn.Conv2d(3, 4, 3, stride=(2, 1), padding=(1, 2)), _noise(2, 3, 6, 5)),
    Case("conv2d_dilation", lambda: nn.Conv2d(3, 4, 3, dilation=2, padding=2), _noise(2, 3, 6, 5)),
    Case("conv2d_same", lambda: nn.Conv2d(3, 4, (3, 2), padding="same", dilation=(1, 2)), _noise(2, 3, 6, 5)),
    Case("conv2d_valid", lambda: nn.Conv2d(3, 4, 3, padding="valid", stride=2), _noise(2, 3, 6, 5)),
    Case("conv2d_reflect", lambda: nn.Conv2d(3, 4, 3, padding=(2, 1), padding_mode="reflect"), _noise(2, 3, 6, 5)),
    Case("conv2d_replicate", lambda: nn.Conv2d(3, 4, 3, padding=(2, 1), padding_mode="replicate"), _noise(2, 3, 6, 5)),
    Case(
        "conv2d_circular_same",
        lambda: nn.Conv2d(3, 4, (2, 3), padding="same", padding_mode="circular"),
        _noise(2, 3, 6, 5),
    ),
    Case("conv2d_patches", lambda: nn.Conv2d(3, 4, 2, stride=2), _noise(2, 3, 6, 4)),
    Case("conv2d_grouped", lambda: nn.Conv2d(4, 6, 3, groups=2, padding=1), _noise(2, 4, 6, 5)),
    Case("conv2d_depthwise", lambda: nn.Conv2d(4, 4, 3, groups=4, padding=1), _noise(2, 4, 6, 5), rank=4),
    Case(
        "conv2d_depthwise_twice_as_many",
        lambda: nn.Conv2d(3, 6, 3, groups=3, padding=1, padding_mode="circular"),
        _noise(2, 3, 6, 5),
        rank=6,
    ),
    Case("conv2d_pointwise_few_positions", lambda: nn.Conv2d(3, 4, 1), _noise(1, 3, 1, 2)),
    Case("conv2d_pointwise", lambda: nn.Conv2d(3, 4, 1), _noise(2, 3, 4, 5)),
    Case("conv2d_pointwise_stride", lambda: nn.Conv2d(3, 4, 1, stride=2), _noise(2, 3, 4, 5)),
    Case("conv2d_pointwise_grouped", lambda: nn.Conv2d(4, 6, 1, groups=2), _noise(2, 4, 4, 5)),
    Case("conv2d_pointwise_without_bias", lambda: nn.Conv2d(3, 4, 1, bias=False), _noise(2, 3, 4, 5)),
    Case("conv2d_pointwise_unbatched", lambda: nn.Conv2d(3, 4, 1), _noise(3, 4, 5)),
    Case(
        "conv2d_pointwise_channels_last",
        _in_memory(lambda: nn.Conv2d(3, 4, 1), torch.channels_last),
        _noise(2, 3, 4, 5, like=torch.channels_last),
    ),
    Case(
        "conv2d_pointwise_channels_last_few_positions",
        _in_memory(lambda: nn.Conv2d(3, 4, 1), torch.channels_last),
        _noise(1, 3, 1, 2, like=torch.channels_last),
    ),
    Case(
        "conv2d_channels_last",
        _in_memory(lambda: nn.Conv2d(3, 4, 3), torch.channels_last),
        _noise(2, 3, 6, 5, like=torch.channels_last),
    ),
    Case("conv2d_unbatched", lambda: nn.Conv2d(3, 4, 3, padding=1), _noise(3, 6, 5)),
]
CONV3D = [
    Case("conv3d", lambda: nn.Conv3d(2, 3, 3, stride=(1, 2, 1), padding=1), _noise(2, 2, 3, 4, 3)),
    Case("conv3d_flat_kernel", lambda: nn.Conv3d(2, 3, (1, 1, 3)), _noise(1, 2, 2, 2, 3)),
    Case("conv3d_same", lambda: nn.Conv3d(2, 3, (2, 3, 1), padding="same"), _noise(1, 2, 3, 4, 3)),
    Case("conv3d_replicate", lambda: nn.Conv3d(2, 3, 2, padding=1, padding_mode="replicate"), _noise(1, 2, 3, 2, 3)),
    Case("conv3d_grouped", lambda: nn.Conv3d(4, 2, 2, groups=2, dilation=(1, 2, 1)), _noise(1, 4, 3, 4, 3)),
    Case("conv3d_pointwise", lambda: nn.Conv3d(2, 3, 1), _noise(2, 2, 3, 2, 3)),
    Case(
        "conv3d_pointwise_channels_last",
        _in_memory(lambda: nn.Conv3d(2, 3, 1), torch.channels_last_3d),
        _noise(2, 2, 3, 2, 3, like=torch.channels_last_3d),
    ),
    Case("conv3d_unbatched", lambda: nn.Conv3d(2, 3, 2), _noise(2, 3, 2, 3)),
]
CONV_TRANSPOSE = [
    Case("conv_transpose1d", lambda: nn.ConvTranspose1d(3, 4, 3, stride=2, padding=1), _noise(2, 3, 4)),
    Case("conv_transpose1d_dilation", lambda: nn.ConvTranspose1d(3, 4, 3, dilation=2, bias=False), _noise(2, 3, 4)),
    Case("conv_transpose1d_unbatched", lambda: nn.ConvTranspose1d(3, 4, 3), _noise(3, 4)),
    Case("conv_transpose2d", lambda: nn.ConvTranspose2d(3, 4, 2, stride=2), _noise(2, 3, 4, 3)),
    Case(
        "conv_transpose2d_output_padding",
        lambda: nn.ConvTranspose2d(3, 4, 3, stride=(2, 3), padding=1, output_padding=(1, 2)),
        _noise(2, 3, 4, 3),
    ),
    Case(
        "conv_transpose2d_output_size",
        lambda: nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1),
        _noise(2, 3, 4, 3),
        lambda: {"output_size": [8, 5]},
    ),
    Case(
        "conv_transpose2d_whole_output_size",
        lambda: nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1),
        _noise(2, 3, 4, 3),
        lambda: {"output_size": torch.Size([2, 4, 8, 5])},
    ),
    Case(
        "conv_transpose2d_unbatched_output_size",
        lambda: nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1),
        _noise(3, 4, 3),
        lambda: {"output_size": [4, 8, 5]},
    ),
    Case(
        "conv_transpose2d_grouped",
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2, output_padding=1),
        _noise(2, 4, 3, 3),
    ),
    Case("conv_transpose3d", lambda: nn.ConvTranspose3d(2, 3, 2, stride=(1, 2, 1), padding=1), _noise(1, 2, 3, 2, 3)),
    Case(
        "conv_transpose3d_output_size",
        lambda: nn.ConvTranspose3d(2, 3, 2, stride=2),
        _noise(1, 2, 2, 2, 2),
        lambda: {"output_size": [5, 4, 5]},
    ),
]
EMBEDDING = [
    Case("embedding", lambda: nn.Embedding(9, 5), lambda: (torch.randint(0, 9, (2, 4)),)),
    Case(
        "embedding_padding", lambda: nn.Embedding(9, 5, padding_idx=3), lambda: (torch.tensor([[1, 3, 8], [3, 0, 2]]),)
    ),
    Case("embedding_labels", lambda: nn.Embedding(9, 5), lambda: (torch.randint(0, 9, (4,)),)),
]


def _self_attention(*shape: int) -> Callable[[], tuple[Tensor, Tensor, Tensor]]:
    def make() -> tuple[Tensor, Tensor, Tensor]:
        x = torch.randn(*shape)
        return x, x, x

    return make


def _cross_attention(*shapes: tuple[int, ...]) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: tuple(torch.randn(*shape) for shape in shapes)


def _memory_attention(query: tuple[int, ...], memory: tuple[int, ...]) -> Callable[[], tuple[Tensor, Tensor, Tensor]]:
    def make() -> tuple[Tensor, Tensor, Tensor]:
        x = torch.randn(*memory)
        return torch.randn(*query), x, x

    return make


def _causal(n: int) -> Tensor:
    return torch.ones(n, n, dtype=torch.bool).triu(1)


def _padding(batch: int, n: int) -> Tensor:
    mask = torch.zeros(batch, n, dtype=torch.bool)
    mask[0, -1] = True
    return mask


def _mha(**options: Any) -> Callable[[], nn.Module]:
    return lambda: nn.MultiheadAttention(4, 2, **options)


_L, _S, _B = 3, 5, 2  # queries, keys, samples
ATTENTION = [
    Case("attention", _mha(), _self_attention(_L, _B, 4)),
    Case("attention_batch_first", _mha(batch_first=True), _self_attention(_B, _L, 4)),
    Case("attention_unbatched", _mha(), _self_attention(_L, 4)),
    Case("attention_unbatched_batch_first", _mha(batch_first=True), _self_attention(_L, 4)),
    Case("attention_cross", _mha(), _cross_attention((_L, _B, 4), (_S, _B, 4), (_S, _B, 4))),
    Case("attention_memory_batch_first", _mha(batch_first=True), _memory_attention((_B, _L, 4), (_B, _S, 4))),
    Case("attention_without_bias", _mha(bias=False), _self_attention(_L, _B, 4)),
    Case("attention_separate", _mha(kdim=6, vdim=3), _cross_attention((_L, _B, 4), (_S, _B, 6), (_S, _B, 3))),
    Case(
        "attention_separate_batch_first_without_bias",
        _mha(kdim=6, vdim=6, batch_first=True, bias=False),
        _memory_attention((_B, _L, 4), (_B, _S, 6)),
    ),
    Case("attention_separate_unbatched", _mha(kdim=6, vdim=3), _cross_attention((_L, 4), (_S, 6), (_S, 3))),
    Case("attention_bias_kv", _mha(add_bias_kv=True), _self_attention(_L, _B, 4)),
    Case("attention_zero_attn", _mha(add_zero_attn=True, batch_first=True), _self_attention(_B, _L, 4)),
    Case(
        "attention_everything_added_with_masks",
        _mha(add_bias_kv=True, add_zero_attn=True),
        _cross_attention((_L, _B, 4), (_S, _B, 4), (_S, _B, 4)),
        lambda: {"key_padding_mask": _padding(_B, _S), "attn_mask": torch.randn(_L, _S)},
    ),
    Case("attention_without_weights", _mha(), _self_attention(_L, _B, 4), lambda: {"need_weights": False}),
    Case("attention_all_weights", _mha(), _self_attention(_L, _B, 4), lambda: {"average_attn_weights": False}),
    Case("attention_unbatched_all_weights", _mha(), _self_attention(_L, 4), lambda: {"average_attn_weights": False}),
    Case("attention_bool_mask", _mha(), _self_attention(_L, _B, 4), lambda: {"attn_mask": _causal(_L)}),
    Case(
        "attention_float_mask",
        _mha(batch_first=True),
        _self_attention(_B, _L, 4),
        lambda: {"attn_mask": torch.randn(_L, _L), "need_weights": False},
    ),
    Case(
        "attention_mask_of_each_head",
        _mha(),
        _self_attention(_L, _B, 4),
        lambda: {"attn_mask": torch.randn(2 * _B, _L, _L)},
    ),
    Case(
        "attention_bool_mask_of_each_head",
        _mha(),
        _self_attention(_L, _B, 4),
        lambda: {"attn_mask": torch.stack([_causal(_L)] * 2 * _B), "need_weights": False},
    ),
    Case(
        "attention_unbatched_mask_of_each_head",
        _mha(),
        _self_attention(_L, 4),
        lambda: {"attn_mask": torch.randn(2, _L, _L)},
    ),
    Case("attention_padding", _mha(), _self_attention(_L, _B, 4), lambda: {"key_padding_mask": _padding(_B, _L)}),
    Case(
        "attention_float_padding",
        _mha(batch_first=True),
        _self_attention(_B, _L, 4),
        lambda: {"key_padding_mask": torch.randn(_B, _L)},
    ),
    Case(
        "attention_unbatched_padding",
        _mha(),
        _self_attention(_L, 4),
        lambda: {"key_padding_mask": torch.tensor([False, True, False])},
    ),
    Case(
        "attention_padding_and_mask",
        _mha(batch_first=True),
        _self_attention(_B, _L, 4),
        lambda: {"key_padding_mask": _padding(_B, _L), "attn_mask": _causal(_L), "need_weights": False},
    ),
    Case(
        "attention_causal",
        _mha(),
        _self_attention(_L, _B, 4),
        lambda: {"attn_mask": _causal(_L), "is_causal": True},
    ),
    Case(
        "attention_causal_without_weights",
        _mha(batch_first=True),
        _self_attention(_B, _L, 4),
        lambda: {"attn_mask": _causal(_L), "is_causal": True, "need_weights": False},
    ),
]
CASES = [*LINEAR, *CONV1D, *CONV2D, *CONV3D, *CONV_TRANSPOSE, *EMBEDDING, *ATTENTION]
BY_NAME = {case.name: case for case in CASES}

KINDS = [
    BY_NAME[name]
    for name in (
        "linear_many_tokens",
        "transformers_conv1d",
        "conv1d",
        "conv2d_many_positions",
        "conv2d_reflect",
        "conv2d_depthwise",
        "conv2d_pointwise",
        "conv3d",
        "conv_transpose2d_output_padding",
        "embedding",
        "attention",
        "attention_separate",
    )
]
"""One case of every kind, for behaviours that do not depend on the geometry."""
