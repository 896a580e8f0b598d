"""transformers' `Trainer` for our models.

```python
from lumora.integrations.transformers import Trainer, TrainingArguments

trainer = Trainer(model, TrainingArguments("out", ...), train_dataset=..., eval_dataset=...)
```

The stock `Trainer` knows peft's models by their class and takes ours for an unknown module: it evaluates without labels
unless `label_names` is given, drops every column unless `remove_unused_columns=False`, passes `num_items_in_batch` to
any base, and writes the whole model into each checkpoint. This one asks the base, and its checkpoints hold the adapters
only. A model without adapters it treats as the stock one does. How it evaluates is in `evaluation.py`.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from torch import nn
from transformers import TrainingArguments as TrainingArguments
from transformers.utils.generic import can_return_loss, find_labels

from lumora.integrations.evaluation import StreamingTrainer
from lumora.lora.files import CARD, CONFIG, DEFAULT
from lumora.lora.model import PeftModel


class Trainer(StreamingTrainer):
    """The `Trainer` of transformers, for models with and without adapters.

    With a task's metrics as `compute_metrics` it evaluates in constant memory, and `self_test` proves an evaluation
    before it is trusted.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if (model := self._adapted()) is not None:
            base = model.get_base_model()
            if self.args.label_names is None:
                self.label_names = find_labels(type(base))
            self.can_return_loss = can_return_loss(type(base))
            accepted = inspect.signature(base.forward).parameters.values()
            self.model_accepts_loss_kwargs = getattr(
                base, "accepts_loss_kwargs", any(p.kind is inspect.Parameter.VAR_KEYWORD for p in accepted)
            )
            if _checkpoints_reentrantly(self.args):
                base.register_forward_pre_hook(_let_input_learn, with_kwargs=True)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write the card of the training, as that of an adapter."""
        super().create_model_card(*args, **kwargs)
        if self._adapted() is not None and self.is_world_process_zero():
            path = Path(str(self.args.output_dir), CARD)
            card = huggingface_hub.ModelCard.load(path)
            card.data["library_name"] = "peft"
            card.data["tags"] = list(dict.fromkeys([*(card.data.get("tags") or ()), "lora", "lumora"]))
            card.save(path)

    def _adapted(self, model: nn.Module | None = None) -> PeftModel | None:
        """The model with adapters, out of whatever wraps it; None for one without."""
        model = self.accelerator.unwrap_model(self.model if model is None else model, keep_torch_compile=False)
        return model if isinstance(model, PeftModel) else None

    def _set_signature_columns_if_needed(self) -> None:
        if getattr(self, "_signature_columns", None) is None and (model := self._adapted()) is not None:
            accepted = inspect.signature(model.get_base_model().forward).parameters
            self._signature_columns = list(dict.fromkeys([*accepted, "label", "label_ids", *self.label_names]))
        super()._set_signature_columns_if_needed()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if (model := self._adapted()) is None:
            super()._save(output_dir, state_dict)
        elif self.args.should_save:
            folder = Path(output_dir or str(self.args.output_dir))
            model.save_pretrained(folder, state_dict=state_dict)
            if self.processing_class is not None:
                self.processing_class.save_pretrained(folder)
            (folder / "training_args.json").write_text(self.args.to_json_string(), encoding="utf-8")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if (adapted := self._adapted(model)) is None or not _holds_adapters(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            _read(adapted, resume_from_checkpoint)

    def _load_best_model(self) -> None:
        best = self.state.best_model_checkpoint
        if (adapted := self._adapted()) is None or best is None or not _holds_adapters(best):
            super()._load_best_model()
        else:
            _read(adapted, best)


def _checkpoints_reentrantly(args: TrainingArguments) -> bool:
    """Whether activations are checkpointed in torch's old way; transformers renamed the argument in its version 5."""
    names = ("activation_checkpointing_kwargs", "gradient_checkpointing_kwargs")
    return any((getattr(args, name, None) or {}).get("use_reentrant", False) for name in names)


def _let_input_learn(base: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Reentrant checkpointing gives gradients only where an input has one, and that of a frozen base has none."""
    pixels = kwargs.get(getattr(base, "main_input_name", "pixel_values"))
    if base.training and isinstance(pixels, torch.Tensor) and pixels.is_floating_point():
        pixels.requires_grad_(True)


def _holds_adapters(folder: str) -> bool:
    return any(Path(folder).glob(CONFIG)) or any(Path(folder).glob(f"*/{CONFIG}"))


def _read(model: PeftModel, folder: str) -> None:
    """Read every adapter of a model from a checkpoint; what is trained stays so."""
    for name in model.peft_config:
        model.load_adapter(Path(folder) if name == DEFAULT else Path(folder, name), name, is_trainable=True)
