"""Models and adapters carried between Keras and torch: the same weights, the same adapters, the same outputs.

KerasHub's ViT and SegFormer have the structure of transformers' models. A table of each architecture says which layer
is which; how the weights of a layer lie in either framework follows from its kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lumora.errors import AdapterError, LumoraError
from lumora.integrations.keras import segformer_layers, vit_layers
from lumora.integrations.keras.applying import adapted, is_adapted
from lumora.integrations.keras.files import put_adapter, tensors_of
from lumora.integrations.keras.layers import layers_of
from lumora.integrations.keras.library import Layer, Model, keras
from lumora.integrations.keras.logits import check_gives_logits
from lumora.integrations.keras.values import tensor_of
from lumora.lora import LoraConfig, PeftModel, files, get_peft_model
from lumora.lora.layers import LoraLayer
from lumora.lora.names import is_inside

Numbers = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Architecture:
    """A model that both frameworks have."""

    keras_class: str
    torch_class: str
    to_torch: Callable[[Model], nn.Module]
    """A torch model of the same sizes, with weights of its own."""
    to_keras: Callable[[nn.Module, int | None], Model]
    """The other way round, for pictures of a side."""
    pairs: Callable[[Model], Mapping[str, str]]
    """The path of each layer in Keras, and in torch."""


_ARCHITECTURES = (
    Architecture(
        "ViTImageClassifier",
        "ViTForImageClassification",
        vit_layers.to_torch,
        vit_layers.to_keras,
        vit_layers.pairs,
    ),
    Architecture(
        "SegFormerImageSegmenter",
        "SegformerForSemanticSegmentation",
        segformer_layers.to_torch,
        segformer_layers.to_keras,
        segformer_layers.pairs,
    ),
)


def to_torch(model: Model) -> nn.Module:
    """The transformers model with a Keras model's weights, in eval mode; a `PeftModel` if it has adapters.

    Knows KerasHub's ViT for classification and SegFormer for segmentation. SegFormer's logits are those before KerasHub
    enlarges them to the picture's size.
    """
    architecture = _of_keras(model)
    check_gives_logits(model)
    other = architecture.to_torch(model)
    pairs = architecture.pairs(model)
    state = {name: tensor for _, name, tensor in _weights_for_torch(model, pairs)}
    lacking = [name for name in other.state_dict() if name not in state and not name.endswith("num_batches_tracked")]
    unknown = [name for name in state if name not in other.state_dict()]
    if lacking or unknown:
        raise LumoraError(
            f"{architecture.torch_class} of the installed transformers has other names than expected: {lacking[:3]} "
            f"{unknown[:3]}. Install a newer version: pip install -U transformers"
        )
    other.load_state_dict(state, strict=False)
    return _adapted_in_torch(model, other.eval(), pairs) if is_adapted(model) else other.eval()


def from_torch(model: nn.Module, *, side: int | None = None, is_trainable: bool = False) -> Model:
    """The KerasHub model with the weights of a transformers model, or of a `PeftModel` around one.

    Args:
        model: a ViT for classification or a SegFormer for segmentation; of several adapters the active one is carried.
        side: of the pictures, which a Keras model must know; a ViT knows it already, a SegFormer takes 512 if not said.
        is_trainable: go on training adapters; otherwise all is frozen.
    """
    inside = model.get_base_model() if isinstance(model, PeftModel) else model
    architecture = _of_torch(inside)
    if isinstance(model, PeftModel) and len(model.active_adapters) != 1:
        raise AdapterError(f"One adapter is carried, but {len(model.active_adapters)} are active; choose one.")
    made = architecture.to_keras(inside, side)
    pairs = architecture.pairs(made)
    _put_base(made, inside, pairs)
    if isinstance(model, PeftModel):
        config, tensors = _adapter_for_keras(made, model, pairs)
        put_adapter(made, config, tensors, is_trainable=is_trainable)
    return made


def _of_keras(model: Model) -> Architecture:
    name = type(model).__name__
    found = next((one for one in _ARCHITECTURES if one.keras_class == name), None)
    if found is None:
        known = " and ".join(one.keras_class for one in _ARCHITECTURES)
        raise LumoraError(f"There is no torch model known with the structure of {name}; known are {known} of KerasHub.")
    return found


def _of_torch(model: nn.Module) -> Architecture:
    name = type(model).__name__
    found = next((one for one in _ARCHITECTURES if one.torch_class == name), None)
    if found is None:
        known = " and ".join(one.torch_class for one in _ARCHITECTURES)
        raise LumoraError(f"There is no Keras model known with the structure of {name}; known are {known}.")
    return found


# --- weights ----------------------------------------------------------------------------------------------------------

_NAMES = {
    "kernel": "weight",
    "embeddings": "weight",
    "gamma": "weight",
    "bias": "bias",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
"""What Keras calls a weight, and torch."""


def _name_in_torch(layer: Layer, path: str, name: str) -> str:
    """The name of a weight in torch; some are no layer's there but a model's own."""
    if name == "class_token":
        return f"{path}.cls_token"
    if isinstance(layer, keras.layers.Embedding):
        return f"{path}.position_embeddings"
    return f"{path}.{_NAMES[name]}"


def _to_torch(layer: Layer, name: str, value: Numbers) -> Numbers:
    """A weight as torch lays it out."""
    kinds = keras.layers
    if isinstance(layer, kinds.Embedding):
        return value[None]
    if name == "bias":
        return value.reshape(-1)
    if name != "kernel":
        return value
    if isinstance(layer, kinds.DepthwiseConv2D):
        return value.transpose(2, 3, 0, 1)
    if isinstance(layer, kinds.Conv2D):
        return value.transpose(3, 2, 0, 1)
    if isinstance(layer, kinds.EinsumDense):
        return value.reshape(_inputs_of(layer), -1).T
    return value.T


def _to_keras(layer: Layer, name: str, value: Numbers, shape: tuple[int, ...]) -> Numbers:
    """A weight as Keras lays it out."""
    kinds = keras.layers
    if name == "kernel" and isinstance(layer, kinds.DepthwiseConv2D):
        return value.transpose(2, 3, 0, 1)
    if name == "kernel" and isinstance(layer, kinds.Conv2D):
        return value.transpose(2, 3, 1, 0)
    if name == "kernel":
        return value.T.reshape(shape)
    return value.reshape(shape)


def _inputs_of(layer: Layer) -> int:
    """How many numbers an `EinsumDense` sums over."""
    _, kernel, outputs = layer.equation.replace("->", ",").split(",")
    sizes = zip(kernel, layer._kernel.shape, strict=True)
    return int(np.prod([size for axis, size in sizes if axis not in outputs]))


def _paired(model: Model, pairs: Mapping[str, str]) -> Iterator[tuple[str, Layer, str, Any]]:
    """Every weight of a Keras model: its layer's path, the layer, its name in torch, itself."""
    for path, layer in layers_of(model).items():
        for variable in (*layer._trainable_variables, *layer._non_trainable_variables):
            if path in pairs:
                yield path, layer, _name_in_torch(layer, pairs[path], variable.name), variable


def _weights_for_torch(model: Model, pairs: Mapping[str, str]) -> Iterator[tuple[str, str, Tensor]]:
    """The path in Keras, the name in torch and the value of every weight."""
    for path, layer, name, variable in _paired(model, pairs):
        value = _to_torch(layer, variable.name, tensor_of(variable).float().numpy())
        yield path, name, torch.from_numpy(np.ascontiguousarray(value))


def _put_base(model: Model, other: nn.Module, pairs: Mapping[str, str]) -> None:
    from lumora.models.fingerprint import base_tensors

    state = dict(base_tensors(other))
    for path, layer, name, variable in _paired(model, pairs):
        if name not in state:
            raise LumoraError(f"{type(other).__name__} has no {name!r}, which {path!r} needs.")
        value = state[name].detach().cpu().float().numpy()
        variable.assign(_to_keras(layer, variable.name, value, tuple(variable.shape)))


# --- adapters ---------------------------------------------------------------------------------------------------------


def _adapted_in_torch(model: Model, other: nn.Module, pairs: Mapping[str, str]) -> PeftModel:
    record = adapted(model)
    config = _renamed(record.config, record.saved, _ranks(model), pairs)
    wrapped = get_peft_model(other, config)
    own = layers_of(model)
    state: dict[str, Tensor] = {}
    for key, tensor in tensors_of(model).items():
        path, name, factor = _split(key)
        if factor:
            state[f"{files.PREFIX}{pairs[path]}.{factor}"] = tensor
        else:
            value = _to_torch(own[path], name, tensor.float().numpy())
            state[files.PREFIX + _name_in_torch(own[path], pairs[path], name)] = torch.from_numpy(
                np.ascontiguousarray(value)
            )
    _load(wrapped, state)
    return wrapped.eval()  # type: ignore[return-value]


def _load(wrapped: PeftModel, state: dict[str, Tensor]) -> None:
    from lumora.lora import get_peft_model_state_dict, set_peft_model_state_dict

    places = get_peft_model_state_dict(wrapped)
    moved = {_at_its_place(key, places): tensor for key, tensor in state.items()}
    set_peft_model_state_dict(wrapped, {**places, **moved})


def _at_its_place(key: str, places: Mapping[str, Tensor]) -> str:
    """The key of a bias, which lies one level deeper where its layer is adapted."""
    if key in places:
        return key
    path, _, name = key.rpartition(".")
    deeper = f"{path}.base_layer.{name}"
    if deeper not in places:
        raise AdapterError(f"The torch model has no place for {key!r}.")
    return deeper


def _adapter_for_keras(made: Model, model: PeftModel, pairs: Mapping[str, str]) -> tuple[LoraConfig, dict[str, Tensor]]:
    """The active adapter's configuration and tensors, under the names of the Keras model."""
    name = model.active_adapters[0]
    config = model.peft_config[name]
    back = {there: here for here, there in pairs.items()}
    layers = layers_of(made)
    ranks = {
        path: (module.adapters[name].r, float(module.adapters[name].alpha))
        for path, module in model.get_base_model().named_modules()
        if isinstance(module, LoraLayer) and name in module.adapters
    }
    saved = [path for path in pairs.values() if _is_saved(path, config.modules_to_save)]
    renamed = _renamed(config, saved, ranks, back)
    tensors: dict[str, Tensor] = {}
    for key, tensor in files.adapter_state_dict(model, name).items():
        if key.endswith("num_batches_tracked"):
            continue
        path, weight, factor = _split(key.replace(".base_layer.", "."))
        if path not in back:
            raise AdapterError(f"{path!r} has no counterpart in {made.name}.")
        layer, here = layers[back[path]], back[path]
        if factor:
            tensors[f"{files.PREFIX}{here}.{factor}"] = tensor
            continue
        variable = next(v for v in layer.weights if _name_in_torch(layer, path, v.name) == f"{path}.{weight}")
        value = _to_keras(layer, variable.name, tensor.detach().cpu().float().numpy(), tuple(variable.shape))
        tensors[f"{files.PREFIX}{here}.{variable.name}"] = torch.from_numpy(np.ascontiguousarray(value))
    return renamed, tensors


def _is_saved(path: str, entries: list[str] | None) -> bool:
    return any(is_inside(path, entry) or f".{entry}." in f".{path}." for entry in entries or ())


def _ranks(model: Model) -> dict[str, tuple[int, float]]:
    """The rank and alpha of each adapter of a Keras model."""
    from lumora.integrations.keras.applying import adapters_of

    root = adapted(model).config.use_rslora
    return {p: (a.r, a.scaling * (a.r**0.5 if root else a.r)) for p, (_, a) in adapters_of(model).items()}


def _renamed(
    config: LoraConfig, saved: Any, ranks: Mapping[str, tuple[int, float]], names: Mapping[str, str]
) -> LoraConfig:
    """The configuration for exactly the same layers under other names."""
    unknown = [path for path in (*ranks, *saved) if path not in names or path.endswith("position_embedding")]
    if unknown:
        raise AdapterError(f"These layers have no counterpart in the other framework: {', '.join(unknown)}.")
    found = {names[path]: rank for path, rank in ranks.items()}
    return replace(
        config,
        target_modules=set(found),
        exclude_modules=None,
        layers_to_transform=None,
        layers_pattern=None,
        modules_to_save=[names[path] for path in saved] or None,
        rank_pattern={path: r for path, (r, _) in found.items() if r != config.r},
        alpha_pattern={path: alpha for path, (_, alpha) in found.items() if alpha != config.lora_alpha},
        task_type=None,
        auto_mapping=None,
        base_model_name_or_path=None,
        inference_mode=False,
    )


def _split(key: str) -> tuple[str, str, str]:
    """Of a key in the file: the layer's path, the weight's name, and the factor's part of the key, empty for others."""
    path = key.removeprefix(files.PREFIX)
    for factor in ("lora_A.weight", "lora_B.weight", "lora_embedding_A", "lora_embedding_B"):
        if path.endswith("." + factor):
            return path.removesuffix("." + factor), "", factor
    path, _, name = path.rpartition(".")
    return path, name, ""
