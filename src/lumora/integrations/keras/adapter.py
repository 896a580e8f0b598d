"""The adapter of one layer: two factors, a scale and a dropout, kept in the layer itself."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lumora.integrations.keras.kinds import Kind
from lumora.integrations.keras.library import Array, Layer, keras, ops
from lumora.lora.config import LoraConfig

NAME = "lora"
"""The attribute of a layer that holds its adapter."""


class Adapter(keras.layers.Layer):
    """The low-rank update of the layer that it lies in.

    Its variables are 32-bit also where the layer computes with 16.

    Args:
        layer: the layer, built.
        kind: what sort of layer it is.
        r: the rank.
        scaling: by how much the update is multiplied.
        config: how the factors start, and the dropout.
    """

    is_adapter = True

    def __init__(self, layer: Layer, kind: Kind, r: int, scaling: float, config: LoraConfig) -> None:
        super().__init__(name=NAME, dtype=_precision(layer))
        self.kind = kind
        self.r = r
        self.scaling = scaling
        self.drop = keras.layers.Dropout(config.lora_dropout, dtype=self.dtype_policy) if config.lora_dropout else None
        of_rows = kind.weight == "embeddings"
        first, second = _starts(config.init_lora_weights, r, of_rows)
        shape_a, shape_b = kind.shapes(layer, r)
        with layer._open_name_scope():  # so that each adapter's variables have a path of their own
            self.a = self.add_weight(shape=shape_a, initializer=first, name="lora_a")
            self.b = self.add_weight(shape=shape_b, initializer=second, name="lora_b")
            count = keras.Variable(1.0, dtype="float32", trainable=False, autocast=False, name="lora_strength")
        # A variable, so that compiled functions see a change; and set so, that Keras does not take it for a weight.
        object.__setattr__(self, "_held_strength", count)
        self._drops_rows = of_rows
        self.built = True

    @property
    def strength(self) -> float:
        """How many times as much it counts as it was trained to. Files hold adapters as they were trained."""
        return float(ops.convert_to_numpy(self._held_strength))

    @strength.setter
    def strength(self, strength: float) -> None:
        self._held_strength.assign(strength)

    @property
    def variables(self) -> list[Any]:
        """The weights and what else is handed to compiled functions, as Keras has it for random states."""
        return [*super().variables, self._held_strength]

    def _trackable_children(self, save_type: str = "checkpoint", **options: Any) -> dict[str, Any]:
        """What TensorFlow saves of it: with a graph also the strength, with weights alone not."""
        children = super()._trackable_children(save_type, **options)
        return {**children, "strength": self._held_strength} if save_type == "savedmodel" else children

    def added(self, layer: Layer, inputs: Array) -> Array:
        """What the update adds to the layer's outputs."""
        if self.drop is not None and not self._drops_rows:
            inputs = self.drop(inputs)
        hidden = self.kind.down(layer, inputs, ops.cast(self.a, self.compute_dtype))
        if self.drop is not None and self._drops_rows:
            hidden = self.drop(hidden)
        hidden = ops.multiply(hidden, ops.cast(self._factor(), self.compute_dtype))
        return self.kind.up(layer, hidden, ops.cast(self.b, self.compute_dtype))

    def update(self, layer: Layer) -> Array:
        """The change of the layer's kernel that it stands for."""
        change = self.kind.update(layer, ops.convert_to_tensor(self.a), ops.convert_to_tensor(self.b))
        return change * self._factor()

    def _factor(self) -> Array:
        return ops.multiply(self._held_strength, self.scaling)


@dataclass(frozen=True, eq=False)
class AdaptedCall:
    """What an adapted layer computes in place of its own `call`."""

    layer: Layer
    adapter: Any

    def __call__(self, inputs: Array, training: bool | None = None) -> Array:
        """The layer's outputs with the update."""
        kind: Kind = self.adapter.kind
        outputs = ops.add(kind.plain(self.layer, inputs), self.adapter.added(self.layer, inputs))
        return kind.finished(self.layer, outputs)

    def rematerialized(self, _call: Any, *given: Any, **named: Any) -> Any:
        """The same for a layer whose numbers are not kept but computed again, in place of its `rematerialized_call`.

        JAX remembers what it traced, with the weights of that time, for as long as a function lives: each is a new one.
        """
        return type(self.layer).rematerialized_call(self.layer, self.__call__, *given, **named)


def attach(layer: Layer, adapter: Any) -> None:
    """Put an adapter into a layer."""
    with unlocked(layer):
        setattr(layer, NAME, adapter)
    call = AdaptedCall(layer, adapter)
    layer.call, layer.rematerialized_call = call, call.rematerialized


def detach(layer: Layer) -> None:
    """Take the adapter out of a layer. Functions of other models that were compiled with it add nothing any more."""
    adapter = adapter_in(layer)
    adapter.b.assign(ops.zeros(adapter.b.shape))
    with unlocked(layer):
        layer._tracker.untrack(adapter)
        delattr(layer, NAME)
    del layer.call, layer.rematerialized_call


def adapter_in(layer: Layer) -> Any:
    """The adapter of a layer, or None."""
    found = getattr(layer, NAME, None)
    return found if getattr(found, "is_adapter", False) else None


@contextmanager
def unlocked(layer: Layer) -> Generator[None]:
    """Inside, a built layer may get or lose parts; Keras's own `enable_lora` does the same."""
    was_locked = layer._tracker.locked
    layer._tracker.unlock()
    try:
        yield
    finally:
        if was_locked:
            layer._tracker.lock()


def _precision(layer: Layer) -> str:
    computed = layer.compute_dtype
    return f"mixed_{computed}" if computed in ("float16", "bfloat16") else computed


def _starts(start: Any, r: int, of_rows: bool) -> tuple[Any, Any]:
    """The initial values of A and B, those of the torch engine; all but False leave the model's outputs as they are."""
    initial = keras.initializers
    if of_rows and start is not False:
        return initial.Zeros(), initial.RandomNormal(stddev=1.0)
    if of_rows:
        return initial.RandomNormal(stddev=1.0), initial.RandomNormal(stddev=1.0)
    if start == "gaussian":
        return initial.RandomNormal(stddev=1 / r), initial.Zeros()
    uniform = initial.VarianceScaling(1 / 3, mode="fan_in", distribution="uniform")  # to 1 / sqrt(inputs)
    if start is False:
        return uniform, initial.RandomUniform(-1 / math.sqrt(r), 1 / math.sqrt(r))
    return uniform, initial.Zeros()
