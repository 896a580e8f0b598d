"""The names of Hugging Face's `peft` that vision users type, at the same places.

Code written for PEFT runs once its imports say `lumora.peft` instead of `peft`. Everything here lives in
`lumora.lora`.
"""

from __future__ import annotations

from lumora.errors import NoMatchingPeftModuleError, PeftError, PeftWarning
from lumora.lora.config import EvaConfig, LoraConfig, PeftConfig, PeftType, TaskType
from lumora.lora.eva import get_eva_state_dict, initialize_lora_eva_weights
from lumora.lora.functional import get_layer_status, get_model_status, inject_adapter_in_model
from lumora.lora.model import PeftModel, get_peft_model
from lumora.lora.states import (
    get_base_model_state_dict,
    get_peft_model_state_dict,
    set_base_model_state_dict,
    set_peft_model_state_dict,
)
from lumora.lora.task_models import (
    PeftModelForCausalLM,
    PeftModelForFeatureExtraction,
    PeftModelForQuestionAnswering,
    PeftModelForSeq2SeqLM,
    PeftModelForSequenceClassification,
    PeftModelForTokenClassification,
)
from lumora.lora.tuner import LoraModel

__all__ = [
    "EvaConfig",
    "LoraConfig",
    "LoraModel",
    "NoMatchingPeftModuleError",
    "PeftConfig",
    "PeftError",
    "PeftModel",
    "PeftModelForCausalLM",
    "PeftModelForFeatureExtraction",
    "PeftModelForQuestionAnswering",
    "PeftModelForSeq2SeqLM",
    "PeftModelForSequenceClassification",
    "PeftModelForTokenClassification",
    "PeftType",
    "PeftWarning",
    "TaskType",
    "get_base_model_state_dict",
    "get_eva_state_dict",
    "get_layer_status",
    "get_model_status",
    "get_peft_model",
    "get_peft_model_state_dict",
    "initialize_lora_eva_weights",
    "inject_adapter_in_model",
    "set_base_model_state_dict",
    "set_peft_model_state_dict",
]
