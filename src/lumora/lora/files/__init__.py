"""PEFT's files: the only place that knows their names, keys and JSON.

An adapter is a folder with `adapter_config.json` and `adapter_model.safetensors`. Everything is read and checked before
a model is touched, and written to temporary names before it takes its place.
"""

from __future__ import annotations

from lumora.lora.files.configuration import model_config, parse_config, write_config
from lumora.lora.files.layout import Slot, frozen_norms, root_of, slots_of
from lumora.lora.files.loading import LoadResult, check_fits, check_same_arithmetic, check_same_base, load_tensors
from lumora.lora.files.names import CARD, CONFIG, DEFAULT, FORMAT_VERSION, PICKLE, PREFIX, WEIGHTS
from lumora.lora.files.reading import Source, Stored, read_adapter, read_config, read_tensors_of_file
from lumora.lora.files.writing import adapter_state_dict, save_adapter, write_card

__all__ = [
    "CARD",
    "CONFIG",
    "DEFAULT",
    "FORMAT_VERSION",
    "PICKLE",
    "PREFIX",
    "WEIGHTS",
    "LoadResult",
    "Slot",
    "Source",
    "Stored",
    "adapter_state_dict",
    "check_fits",
    "check_same_arithmetic",
    "check_same_base",
    "frozen_norms",
    "load_tensors",
    "model_config",
    "parse_config",
    "read_adapter",
    "read_config",
    "read_tensors_of_file",
    "root_of",
    "save_adapter",
    "slots_of",
    "write_card",
    "write_config",
]
