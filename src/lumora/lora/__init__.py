"""The LoRA engine: adapters for any `torch.nn.Module`, in PEFT's files. Needs torch and safetensors only."""

from __future__ import annotations

from lumora.lora.config import EvaConfig, LoraConfig, PeftConfig, PeftType, TaskType
from lumora.lora.eva import get_eva_state_dict, initialize_lora_eva_weights
from lumora.lora.functional import get_layer_status, get_model_status, inject_adapter_in_model
from lumora.lora.hotswap import hotswap_adapter, prepare_model_for_compiled_hotswap
from lumora.lora.model import PeftModel, get_peft_model
from lumora.lora.optimizers import create_lorafa_optimizer, create_loraplus_optimizer
from lumora.lora.states import (
    get_base_model_state_dict,
    get_peft_model_state_dict,
    set_base_model_state_dict,
    set_peft_model_state_dict,
)
from lumora.lora.targets import default_targets
from lumora.lora.task_models import PeftModelForFeatureExtraction
from lumora.lora.tuner import LoraModel

__all__ = [
    "EvaConfig",
    "LoraConfig",
    "LoraModel",
    "PeftConfig",
    "PeftModel",
    "PeftModelForFeatureExtraction",
    "PeftType",
    "TaskType",
    "create_lorafa_optimizer",
    "create_loraplus_optimizer",
    "default_targets",
    "get_base_model_state_dict",
    "get_eva_state_dict",
    "get_layer_status",
    "get_model_status",
    "get_peft_model",
    "get_peft_model_state_dict",
    "hotswap_adapter",
    "initialize_lora_eva_weights",
    "inject_adapter_in_model",
    "prepare_model_for_compiled_hotswap",
    "set_base_model_state_dict",
    "set_peft_model_state_dict",
]
