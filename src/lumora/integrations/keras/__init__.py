"""LoRA, pictures, metrics and bundles for Keras models, on TensorFlow, JAX or torch. Needs the extra `lumora[keras]`.

Import it, or torch, before TensorFlow: see `library.py`. Each name below is fetched when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lumora import lazy

if TYPE_CHECKING:
    from lumora.integrations.keras.applying import apply_lora as apply_lora
    from lumora.integrations.keras.applying import count_parameters as count_parameters
    from lumora.integrations.keras.applying import merge_lora as merge_lora
    from lumora.integrations.keras.applying import print_trainable_parameters as print_trainable_parameters
    from lumora.integrations.keras.applying import remove_lora as remove_lora
    from lumora.integrations.keras.applying import set_strength as set_strength
    from lumora.integrations.keras.bases import describe as describe
    from lumora.integrations.keras.bases import load_model as load_model
    from lumora.integrations.keras.bundles import load_bundle as load_bundle
    from lumora.integrations.keras.bundles import save_bundle as save_bundle
    from lumora.integrations.keras.callbacks import BundleCallback as BundleCallback
    from lumora.integrations.keras.callbacks import PushCallback as PushCallback
    from lumora.integrations.keras.converting import convert_bundle as convert_bundle
    from lumora.integrations.keras.crossing import from_torch as from_torch
    from lumora.integrations.keras.crossing import to_torch as to_torch
    from lumora.integrations.keras.evaluating import MetricCallback as MetricCallback
    from lumora.integrations.keras.evaluating import evaluate as evaluate
    from lumora.integrations.keras.files import load_adapter as load_adapter
    from lumora.integrations.keras.files import save_adapter as save_adapter
    from lumora.integrations.keras.in_torch import InTorch as InTorch
    from lumora.integrations.keras.layers import layers_of as layers_of
    from lumora.integrations.keras.optimizing import WarmUp as WarmUp
    from lumora.integrations.keras.optimizing import create_optimizer as create_optimizer
    from lumora.integrations.keras.optimizing import create_schedule as create_schedule
    from lumora.integrations.keras.pictures import PictureDataset as PictureDataset
    from lumora.integrations.keras.pictures import to_tf_dataset as to_tf_dataset
    from lumora.integrations.keras.run import RunCallback as RunCallback

_HOMES = {
    "BundleCallback": "callbacks",
    "InTorch": "in_torch",
    "MetricCallback": "evaluating",
    "PictureDataset": "pictures",
    "PushCallback": "callbacks",
    "RunCallback": "run",
    "WarmUp": "optimizing",
    "apply_lora": "applying",
    "convert_bundle": "converting",
    "count_parameters": "applying",
    "create_optimizer": "optimizing",
    "create_schedule": "optimizing",
    "describe": "bases",
    "evaluate": "evaluating",
    "from_torch": "crossing",
    "layers_of": "layers",
    "load_adapter": "files",
    "load_bundle": "bundles",
    "load_model": "bases",
    "merge_lora": "applying",
    "print_trainable_parameters": "applying",
    "remove_lora": "applying",
    "save_adapter": "files",
    "save_bundle": "bundles",
    "set_strength": "applying",
    "to_tf_dataset": "pictures",
    "to_torch": "crossing",
}

__all__ = [*_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy.names(__name__, _HOMES)
