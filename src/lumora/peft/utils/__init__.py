"""What lies beneath the public names of PEFT and is imported all the same."""

from __future__ import annotations

from lumora.lora.config import PeftType, TaskType
from lumora.lora.functional import get_submodules as _get_submodules
from lumora.lora.functional import infer_device
from lumora.lora.saved import AuxiliaryTrainingWrapper, ModulesToSaveWrapper, TrainableTokensWrapper
from lumora.lora.states import get_peft_model_state_dict, set_peft_model_state_dict

__all__ = [
    "AuxiliaryTrainingWrapper",
    "ModulesToSaveWrapper",
    "PeftType",
    "TaskType",
    "TrainableTokensWrapper",
    "_get_submodules",
    "get_peft_model_state_dict",
    "infer_device",
    "set_peft_model_state_dict",
]
