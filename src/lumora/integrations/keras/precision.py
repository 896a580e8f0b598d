"""Running a Keras model in the full precision of its 32-bit numbers, so that other machines give the same."""

from __future__ import annotations

import importlib
from collections.abc import Generator
from contextlib import contextmanager

from lumora.integrations.keras.library import keras, tensorflow


@contextmanager
def full_precision() -> Generator[None]:
    """What `lumora.bundle.precision.full_precision` does for torch: a GPU does not shorten numbers inside."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        with _in_tensorflow():
            yield
    elif backend == "jax":
        with importlib.import_module("jax").default_matmul_precision("float32"):
            yield
    else:
        yield


@contextmanager
def _in_tensorflow() -> Generator[None]:
    settings = tensorflow().config.experimental
    before = settings.tensor_float_32_execution_enabled()
    settings.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        settings.enable_tensor_float_32_execution(before)
