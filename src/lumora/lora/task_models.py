"""`PeftModel` under the names that PEFT gives it for each task. All behave alike; the name says what it is for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from torch import nn

from lumora.lora.config import LoraConfig, TaskType
from lumora.lora.model import PeftModel


class _TaskModel(PeftModel):
    """A `PeftModel` whose adapters are for one task unless their configuration says another."""

    task: ClassVar[TaskType]

    def __init_subclass__(cls) -> None:
        PeftModel.task_classes[cls.task] = cls

    def __init__(
        self, model: nn.Module, peft_config: LoraConfig, adapter_name: str = "default", *args: Any, **options: Any
    ) -> None:
        config = replace(peft_config, task_type=peft_config.task_type or self.task)
        super().__init__(model, config, adapter_name, *args, **options)


class PeftModelForSequenceClassification(_TaskModel):
    """A `PeftModel` whose `classifier` or `score` is trained and saved, too."""

    task = TaskType.SEQ_CLS


class PeftModelForTokenClassification(_TaskModel):
    """A `PeftModel` whose `classifier` or `score` is trained and saved, too."""

    task = TaskType.TOKEN_CLS


class PeftModelForFeatureExtraction(_TaskModel):
    """A `PeftModel` for a backbone without a head."""

    task = TaskType.FEATURE_EXTRACTION


class PeftModelForQuestionAnswering(_TaskModel):
    """A `PeftModel`."""

    task = TaskType.QUESTION_ANS


class PeftModelForCausalLM(_TaskModel):
    """A `PeftModel`."""

    task = TaskType.CAUSAL_LM


class PeftModelForSeq2SeqLM(_TaskModel):
    """A `PeftModel`."""

    task = TaskType.SEQ_2_SEQ_LM
