"""The kinds of layers that can be adapted: what the two factors look like in each, and what they add.

Every kind is linear in its kernel, so that the update of rank r can be applied to the inputs in two small steps
instead of being added to the kernel: `inputs → A → r numbers → B`, added before bias and activation. The kernel's own
gradient is never computed.
"""

from __future__ import annotations

import string
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from lumora.integrations.keras.library import Array, Layer, keras, ops

Shape = tuple[int, ...]


class Kind(ABC):
    """What differs between the kinds of layers."""

    a_key = "lora_A.weight"
    b_key = "lora_B.weight"
    weight = "kernel"

    def unsuitable(self, layer: Layer) -> str | None:
        """Why a layer of this kind cannot be adapted, or None."""
        return None

    @abstractmethod
    def shapes(self, layer: Layer, r: int) -> tuple[Shape, Shape]:
        """The shapes of A and B."""

    @abstractmethod
    def down(self, layer: Layer, inputs: Array, a: Array) -> Array:
        """The r numbers of each input."""

    def up(self, layer: Layer, hidden: Array, b: Array) -> Array:
        """What is added to the layer's outputs."""
        return ops.matmul(hidden, b)

    @abstractmethod
    def plain(self, layer: Layer, inputs: Array) -> Array:
        """What the layer gives before bias and activation."""

    def update(self, layer: Layer, a: Array, b: Array) -> Array:
        """The change of the kernel that both factors make, in the kernel's shape."""
        return ops.matmul(a, b)

    def finished(self, layer: Layer, outputs: Array) -> Array:
        """The outputs with bias and activation."""
        bias = getattr(layer, "bias", None)
        if bias is not None:
            outputs = ops.add(outputs, self.bias(layer))
        activation = getattr(layer, "activation", None)
        return outputs if activation is None else activation(outputs)

    def bias(self, layer: Layer) -> Array:
        """The bias in a shape that can be added to outputs."""
        return layer.bias

    def kernel(self, layer: Layer) -> Any:
        """The variable that an update is one of."""
        return getattr(layer, f"_{self.weight}")

    # In PEFT's files A is (r, inputs) and B is (outputs, r).

    def a_to_file(self, a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """A as it is written to the file."""
        return a.reshape(-1, a.shape[-1]).T

    def b_to_file(self, b: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """B as it is written to the file."""
        return b.reshape(b.shape[0], -1).T

    def a_from_file(self, stored: np.ndarray[Any, Any], shape: Shape) -> np.ndarray[Any, Any]:
        """A, in the shape that it has in the layer."""
        return stored.T.reshape(shape)

    def b_from_file(self, stored: np.ndarray[Any, Any], shape: Shape) -> np.ndarray[Any, Any]:
        """B, in the shape that it has in the layer."""
        return stored.T.reshape(shape)


class DenseKind(Kind):
    """`Dense`: A (inputs, r), B (r, outputs)."""

    def shapes(self, layer: Layer, r: int) -> tuple[Shape, Shape]:
        inputs, outputs = layer._kernel.shape
        return (inputs, r), (r, outputs)

    def down(self, layer: Layer, inputs: Array, a: Array) -> Array:
        return ops.matmul(inputs, a)

    def plain(self, layer: Layer, inputs: Array) -> Array:
        return ops.matmul(inputs, layer.kernel)


@dataclass(frozen=True)
class Equation:
    """The equation of an `EinsumDense`, split at the rank.

    >>> Equation.of("abc,cde->abde")
    Equation(summed='c', new='de', down='abc,cr->abr', up='abr,rde->abde', update='cr,rde->cde')
    """

    summed: str
    """The kernel's axes that meet the inputs'."""
    new: str
    """The kernel's axes that the outputs get."""
    down: str
    up: str
    update: str

    @classmethod
    def of(cls, equation: str) -> Equation | None:
        """The two halves; None where the kernel has axes that inputs and outputs share."""
        inputs, kernel, outputs = equation.replace("->", ",").split(",")
        summed = "".join(axis for axis in kernel if axis in inputs and axis not in outputs)
        new = "".join(axis for axis in kernel if axis not in inputs and axis in outputs)
        if len(summed) + len(new) != len(kernel) or not summed or not new:
            return None
        rank = next(letter for letter in "r" + string.ascii_letters if letter not in equation)
        hidden = "".join(axis for axis in inputs if axis not in summed) + rank
        return cls(
            summed,
            new,
            f"{inputs},{summed}{rank}->{hidden}",
            f"{hidden},{rank}{new}->{outputs}",
            f"{summed}{rank},{rank}{new}->{kernel}",
        )


class EinsumKind(Kind):
    """`EinsumDense`: A (summed axes, r), B (r, new axes), as a `Dense` of the same numbers would have them."""

    def unsuitable(self, layer: Layer) -> str | None:
        if Equation.of(layer.equation) is None:
            return (
                f"its equation {layer.equation!r} has a kernel axis that inputs and outputs share, so it is many "
                "layers in one and has no update of a single rank"
            )
        return None

    def shapes(self, layer: Layer, r: int) -> tuple[Shape, Shape]:
        equation, sizes = _equation(layer), self._sizes(layer)
        return (*(sizes[axis] for axis in equation.summed), r), (r, *(sizes[axis] for axis in equation.new))

    def down(self, layer: Layer, inputs: Array, a: Array) -> Array:
        return ops.einsum(_equation(layer).down, inputs, a)

    def up(self, layer: Layer, hidden: Array, b: Array) -> Array:
        return ops.einsum(_equation(layer).up, hidden, b)

    def plain(self, layer: Layer, inputs: Array) -> Array:
        return ops.einsum(layer.equation, inputs, layer.kernel)

    def update(self, layer: Layer, a: Array, b: Array) -> Array:
        return ops.einsum(_equation(layer).update, a, b)

    def _sizes(self, layer: Layer) -> dict[str, int]:
        axes = layer.equation.replace("->", ",").split(",")[1]
        return dict(zip(axes, layer._kernel.shape, strict=True))


class ConvKind(Kind):
    """`Conv1D`, `Conv2D`, `Conv3D`: A is a convolution to r channels, B mixes them: (r, outputs)."""

    def __init__(self, axes: int) -> None:
        self._axes = axes

    def unsuitable(self, layer: Layer) -> str | None:
        return f"it has {layer.groups} groups; only convolutions of one group are adapted" if layer.groups > 1 else None

    def shapes(self, layer: Layer, r: int) -> tuple[Shape, Shape]:
        *window, inputs, outputs = layer._kernel.shape
        return (*window, inputs, r), (r, outputs)

    def down(self, layer: Layer, inputs: Array, a: Array) -> Array:
        return _convolved(layer, inputs, a)

    def up(self, layer: Layer, hidden: Array, b: Array) -> Array:
        if layer.data_format == "channels_last":
            return ops.matmul(hidden, b)
        return ops.moveaxis(ops.matmul(ops.moveaxis(hidden, 1, -1), b), -1, 1)

    def plain(self, layer: Layer, inputs: Array) -> Array:
        return _convolved(layer, inputs, layer.kernel)

    def bias(self, layer: Layer) -> Array:
        if layer.data_format == "channels_last":
            return layer.bias
        return ops.reshape(layer.bias, (1, -1, *(1,) * layer.rank))

    def a_to_file(self, a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.moveaxis(a, (-1, -2), (0, 1))

    def b_to_file(self, b: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return b.T.reshape(*b.T.shape, *(1,) * self._axes)

    def a_from_file(self, stored: np.ndarray[Any, Any], shape: Shape) -> np.ndarray[Any, Any]:
        return np.moveaxis(stored, (0, 1), (-1, -2)).reshape(shape)

    def b_from_file(self, stored: np.ndarray[Any, Any], shape: Shape) -> np.ndarray[Any, Any]:
        return stored.reshape(stored.shape[:2]).T


class ConvTransposeKind(ConvKind):
    """`Conv1DTranspose`, `Conv2DTranspose`, `Conv3DTranspose`: A is one to r channels, B mixes them: (r, outputs)."""

    def unsuitable(self, layer: Layer) -> str | None:
        return None

    def shapes(self, layer: Layer, r: int) -> tuple[Shape, Shape]:
        *window, outputs, inputs = layer.kernel.shape
        return (*window, r, inputs), (r, outputs)

    def kernel(self, layer: Layer) -> Any:
        return layer.kernel

    def down(self, layer: Layer, inputs: Array, a: Array) -> Array:
        return _convolved_back(layer, inputs, a)

    def plain(self, layer: Layer, inputs: Array) -> Array:
        return _convolved_back(layer, inputs, layer.kernel)

    def update(self, layer: Layer, a: Array, b: Array) -> Array:
        return ops.einsum("...ri,ro->...oi", a, b)


class EmbeddingKind(Kind):
    """`Embedding`: A (rows, r), B (r, length of a row)."""

    a_key = "lora_embedding_A"
    b_key = "lora_embedding_B"
    weight = "embeddings"

    def shapes(self, layer: Layer, r: int) -> tuple[Shape, Shape]:
        return (layer.input_dim, r), (r, layer.output_dim)

    def down(self, layer: Layer, inputs: Array, a: Array) -> Array:
        return ops.take(a, ops.cast(inputs, "int32"), axis=0)

    def plain(self, layer: Layer, inputs: Array) -> Array:
        rows = ops.take(layer.embeddings, ops.cast(inputs, "int32"), axis=0)
        return ops.cast(rows, layer.compute_dtype)


_KINDS: dict[type, Kind] = {
    keras.layers.Dense: DenseKind(),
    keras.layers.EinsumDense: EinsumKind(),
    keras.layers.Embedding: EmbeddingKind(),
    keras.layers.Conv1D: ConvKind(1),
    keras.layers.Conv2D: ConvKind(2),
    keras.layers.Conv3D: ConvKind(3),
    keras.layers.Conv1DTranspose: ConvTransposeKind(1),
    keras.layers.Conv2DTranspose: ConvTransposeKind(2),
    keras.layers.Conv3DTranspose: ConvTransposeKind(3),
}

LINEAR = (DenseKind, EinsumKind)
"""What "all-linear" means."""


def kind_of(layer: Layer) -> Kind | None:
    """The kind of a layer, by its exact class: a subclass may compute something else."""
    return _KINDS.get(type(layer))


def why_not(layer: Layer) -> str:
    """Why a layer has no kind."""
    name = type(layer).__name__
    ancestor = next((one.__name__ for one in _KINDS if isinstance(layer, one)), None)
    if ancestor is not None:
        return f"{name} is a subclass of {ancestor} and may compute something else; only the class itself is adapted"
    return f"{name} cannot be adapted; it can be trained whole with modules_to_save"


def _convolved(layer: Layer, inputs: Array, kernel: Array) -> Array:
    padding = layer.padding
    if padding == "causal":
        inputs, padding = ops.pad(inputs, layer._compute_causal_padding()), "valid"
    return ops.conv(
        inputs,
        kernel,
        strides=list(layer.strides),
        padding=padding,
        dilation_rate=layer.dilation_rate,
        data_format=layer.data_format,
    )


def _convolved_back(layer: Layer, inputs: Array, kernel: Array) -> Array:
    return ops.conv_transpose(
        inputs,
        kernel,
        strides=list(layer.strides),
        padding=layer.padding,
        output_padding=layer.output_padding,
        dilation_rate=layer.dilation_rate,
        data_format=layer.data_format,
    )


def _equation(layer: Layer) -> Equation:
    equation = Equation.of(layer.equation)
    assert equation is not None  # refused before
    return equation
