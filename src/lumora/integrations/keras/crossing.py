"""Models and adapters carried between Keras and torch: the same weights, the same adapters, the same outputs.

KerasHub's ViT and SegFormer have the structure of transformers' models. A table of each architecture says which layer
is which; how the weights of a layer lie in either framework follows from its kind.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lumora.errors import AdapterError, LumoraError
from lumora.integrations.keras import segformer_layers, vit_layers
from lumora.integrations.keras.adapter import adapter_in
from lumora.integrations.keras.applying import adapted, adapters_of, is_adapted
from lumora.integrations.keras.files import put_adapter, tensors_of
from lumora.integrations.keras.layers import layers_of, own_weights
from lumora.integrations.keras.library import Layer, Model, keras
from lumora.integrations.keras.logits import check_gives_logits
from lumora.integrations.keras.values import tensor_of
from lumora.lora import LoraConfig, PeftModel, files, get_peft_model
from lumora.lora.layers import LoraLayer
from lumora.lora.names import is_inside, is_inside_any

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
    enlarges them to the picture's size. Adapters count as much as in Keras, see `set_strength`.
    """
    return with_whole_heads(model, ())


def with_whole_heads(model: Model, heads: Collection[str]) -> nn.Module:
    """The same, where adapters and these modules of the torch model make all that differs from its base.

    Adapters in them are merged: what is trained whole can have none.
    """
    architecture = _of_keras(model)
    check_gives_logits(model)
    other = architecture.to_torch(model)
    pairs = architecture.pairs(model)
    state = {name: tensor for _, name, tensor in _weights_for_torch(model, pairs, heads if is_adapted(model) else ())}
    lacking = [name for name in other.state_dict() if name not in state and not name.endswith("num_batches_tracked")]
    unknown = [name for name in state if name not in other.state_dict()]
    if lacking or unknown:
        raise LumoraError(
            f"{architecture.torch_class} of the installed transformers has other names than expected: {lacking[:3]} "
            f"{unknown[:3]}. Install a newer version: pip install -U transformers"
        )
    other.load_state_dict(state, strict=False)
    return _adapted_in_torch(model, other.eval(), pairs, heads) if is_adapted(model) else other.eval()


def from_torch(model: nn.Module, *, side: int | None = None, is_trainable: bool = False) -> Model:
    """The KerasHub model with the weights of a transformers model, or of a `PeftModel` around one.

    Args:
        model: a ViT for classification or a SegFormer for segmentation; of several adapters the active one is carried.
        side: of the pictures, which a Keras model must know; a ViT knows it already, a SegFormer takes 512 if not said.
        is_trainable: go on training adapters; otherwise all is frozen.
    """
    inside = model.get_base_model() if isinstance(model, PeftModel) else model
    architecture = _of_torch(inside)
    if isinstance(model, PeftModel):
        _refuse_adapter(model)
    made = architecture.to_keras(inside, side)
    pairs = architecture.pairs(made)
    _put_base(made, inside, pairs)
    if isinstance(model, PeftModel):
        config, tensors = _adapter_for_keras(made, model, pairs)
        put_adapter(made, config, tensors, is_trainable=is_trainable)
        _carry_strengths(made, model, pairs)
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


def _weights_for_torch(
    model: Model, pairs: Mapping[str, str], merged: Collection[str]
) -> Iterator[tuple[str, str, Tensor]]:
    """The path in Keras, the name in torch and the value of every weight, with adapters in modules to be merged."""
    for path, layer, name, variable in _paired(model, pairs):
        tensor, adapter = tensor_of(variable).float(), adapter_in(layer)
        if adapter is not None and variable.name == adapter.kind.weight and is_inside_any(name, merged):
            tensor = tensor + tensor_of(adapter.update(layer)).float()
        value = _to_torch(layer, variable.name, tensor.numpy())
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


def _adapted_in_torch(model: Model, other: nn.Module, pairs: Mapping[str, str], heads: Collection[str]) -> PeftModel:
    record = adapted(model)
    ranks = {path: rank for path, rank in _ranks(model).items() if not is_inside_any(pairs.get(path, ""), heads)}
    whole = [*_unlike_inner([*heads, *_saved_in_torch(model, record.saved, pairs)])]
    wrapped = get_peft_model(other, _renamed(record.config, whole, ranks, pairs))
    own = layers_of(model)
    state: dict[str, Tensor] = {}
    for key, tensor in tensors_of(model).items():
        path, name, factor = _split(key)
        if factor and path in ranks:
            state[f"{files.PREFIX}{pairs[path]}.{factor}"] = tensor
        elif not factor:
            value = _to_torch(own[path], name, tensor.float().numpy())
            state[files.PREFIX + _name_in_torch(own[path], pairs[path], name)] = torch.from_numpy(
                np.ascontiguousarray(value)
            )
    _load(wrapped, state)
    there = _lora_layers(wrapped)
    for path in ranks:
        there[pairs[path]].set_strength("default", adapter_in(own[path]).strength)
    return wrapped.eval()  # type: ignore[return-value]


def _saved_in_torch(model: Model, saved: Collection[str], pairs: Mapping[str, str]) -> list[str]:
    """The torch modules of all weights in the layers that are trained whole."""
    whole = [p for p, layer in layers_of(model).items() if own_weights(layer) and is_inside_any(p, saved)]
    if unknown := [path for path in whole if path not in pairs]:
        raise AdapterError(f"These layers have no counterpart in torch: {', '.join(unknown)}.")
    return [pairs[path] for path in whole]


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


def _refuse_adapter(model: PeftModel) -> None:
    """Raise where an adapter is not one that a Keras model can have."""
    if len(model.active_adapters) != 1:
        raise AdapterError(f"One adapter is carried, but {len(model.active_adapters)} are active; choose one.")
    name = model.active_adapters[0]
    config = model.peft_config[name]
    found = [option for option in ("use_dora", "lora_bias") if getattr(config, option)]
    if found:
        raise AdapterError(
            f"The adapter {name!r} has {' and '.join(f'{option}=True' for option in found)}, which adapters in Keras "
            "models cannot have. Carry the model with the adapter merged: from_torch(model.merge_and_unload()), or "
            "train one without."
        )
    if any(layer.merged for layer in _lora_layers(model).values()):
        raise AdapterError(f"The adapter {name!r} is merged into the base; call model.unmerge_adapter() first.")


def _lora_layers(model: PeftModel) -> dict[str, LoraLayer]:
    found = model.get_base_model().named_modules()
    return {path: module for path, module in found if isinstance(module, LoraLayer)}


def _adapter_for_keras(made: Model, model: PeftModel, pairs: Mapping[str, str]) -> tuple[LoraConfig, dict[str, Tensor]]:
    """The active adapter's configuration and tensors, under the names of the Keras model."""
    name = model.active_adapters[0]
    config = model.peft_config[name]
    back = {there: here for here, there in pairs.items()}
    ranks = {
        path: (module.adapters[name].r, float(module.adapters[name].alpha))
        for path, module in _lora_layers(model).items()
        if name in module.adapters
    }
    saved = [here for here, there in pairs.items() if _is_saved(there, config.modules_to_save)]
    renamed = _renamed(config, [*_unlike_inner(saved)], ranks, back)
    places = {there: (path, layer, variable) for path, layer, there, variable in _paired(made, pairs)}
    tensors: dict[str, Tensor] = {}
    for key, tensor in files.adapter_state_dict(model, name).items():
        if key.endswith("num_batches_tracked"):
            continue
        path, weight, factor = _split(key.replace(".base_layer.", "."))
        if factor:
            tensors[f"{files.PREFIX}{back[path]}.{factor}"] = tensor
            continue
        if f"{path}.{weight}" not in places:
            raise AdapterError(f"'{path}.{weight}' has no counterpart in {made.name}.")
        here, layer, variable = places[f"{path}.{weight}"]
        value = _to_keras(layer, variable.name, tensor.detach().cpu().float().numpy(), tuple(variable.shape))
        tensors[f"{files.PREFIX}{here}.{variable.name}"] = torch.from_numpy(np.ascontiguousarray(value))
    return renamed, tensors


def _carry_strengths(made: Model, model: PeftModel, pairs: Mapping[str, str]) -> None:
    name, there = model.active_adapters[0], _lora_layers(model)
    for path, (_, adapter) in adapters_of(made).items():
        adapter.strength = there[pairs[path]].adapters[name].strength


def _is_saved(path: str, entries: list[str] | None) -> bool:
    return any(is_inside(path, entry) or f".{entry}." in f".{path}." for entry in entries or ())


def _unlike_inner(paths: Collection[str]) -> dict[str, None]:
    """Each path once, without those inside another one."""
    return {path: None for path in paths if not is_inside_any(path, [other for other in paths if other != path])}


def _ranks(model: Model) -> dict[str, tuple[int, float]]:
    """The rank and alpha of each adapter of a Keras model."""
    root = adapted(model).config.use_rslora
    return {p: (a.r, a.scaling * (a.r**0.5 if root else a.r)) for p, (_, a) in adapters_of(model).items()}


def _renamed(
    config: LoraConfig, saved: list[str], ranks: Mapping[str, tuple[int, float]], names: Mapping[str, str]
) -> LoraConfig:
    """The configuration for exactly the same layers under other names; those trained whole have them already."""
    unknown = [path for path in ranks if path not in names or path.endswith("position_embedding")]
    if unknown:
        raise AdapterError(f"These layers have no counterpart in the other framework: {', '.join(unknown)}.")
    found = {names[path]: rank for path, rank in ranks.items()}
    return replace(
        config,
        target_modules=set(found),
        exclude_modules=None,
        layers_to_transform=None,
        layers_pattern=None,
        modules_to_save=saved or None,
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
