"""Every name of PEFT that Lumora promises is there, at the same place."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn

import lumora.peft
from lumora.peft import LoraConfig, PeftModel, TaskType, get_peft_model

SURFACE: dict[str, tuple[str, ...]] = {
    "": (
        "LoraConfig", "LoraModel", "get_peft_model", "PeftModel", "PeftConfig", "PeftType", "TaskType",
        "get_peft_model_state_dict", "set_peft_model_state_dict", "inject_adapter_in_model", "get_layer_status",
        "get_model_status", "get_base_model_state_dict", "set_base_model_state_dict", "PeftWarning", "PeftError",
        "NoMatchingPeftModuleError", "EvaConfig", "initialize_lora_eva_weights", "get_eva_state_dict",
        "PeftModelForFeatureExtraction", "PeftModelForSequenceClassification", "PeftModelForTokenClassification",
        "PeftModelForQuestionAnswering", "PeftModelForCausalLM", "PeftModelForSeq2SeqLM",
    ),
    ".tuners": ("LoraConfig", "LoraModel"),
    ".tuners.lora": (
        "LoraLayer", "LoraConfig", "LoraModel", "EvaConfig", "Linear", "Embedding", "get_eva_state_dict",
        "initialize_lora_eva_weights",
    ),
    ".tuners.tuners_utils": ("BaseTunerLayer", "BaseTuner"),
    ".utils": (
        "ModulesToSaveWrapper", "AuxiliaryTrainingWrapper", "TrainableTokensWrapper", "_get_submodules",
        "infer_device", "PeftType", "TaskType", "get_peft_model_state_dict", "set_peft_model_state_dict",
    ),
    ".utils.hotswap": (
        "hotswap_adapter", "prepare_model_for_compiled_hotswap", "hotswap_adapter_from_state_dict",
    ),
    ".helpers": ("check_if_peft_model", "rescale_adapter_scale", "disable_input_dtype_casting"),
    ".optimizers": ("create_loraplus_optimizer", "create_lorafa_optimizer"),
    ".import_utils": ("is_transformers_ge_v5",),
    ".functional": (
        "cast_adapter_dtype", "delete_adapter", "inject_adapter_in_model", "set_adapter", "set_requires_grad",
        "get_peft_model_state_dict", "set_peft_model_state_dict",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("path", "name"), [(path, name) for path, names in SURFACE.items() for name in names])
def test_name__is_at_the_place_where_peft_has_it(path: str, name: str) -> None:
    ours = importlib.import_module(f"lumora.peft{path}")
    theirs = importlib.import_module(f"peft{path}")
    assert hasattr(theirs, name)
    assert hasattr(ours, name)
    assert name in ours.__all__


@pytest.mark.parametrize("path", SURFACE)
def test_module__offers_these_names_and_no_others(path: str) -> None:
    assert sorted(importlib.import_module(f"lumora.peft{path}").__all__) == sorted(SURFACE[path])


def parameters(function: object) -> list[str]:
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [p.name for p in inspect.signature(function).parameters.values() if p.kind not in kinds]  # type: ignore[arg-type]


CALLED = {
    "": (
        "get_peft_model", "get_peft_model_state_dict", "set_peft_model_state_dict", "inject_adapter_in_model",
        "get_layer_status", "get_model_status", "get_base_model_state_dict", "set_base_model_state_dict", "EvaConfig",
        "initialize_lora_eva_weights", "get_eva_state_dict",
        "PeftModel", "PeftModel.from_pretrained", "PeftModel.save_pretrained", "PeftModel.load_adapter",
        "PeftModel.add_adapter", "PeftModel.set_adapter", "PeftModel.disable_adapter", "PeftModel.get_base_model",
        "PeftModel.get_nb_trainable_parameters", "PeftModel.print_trainable_parameters", "PeftModel.get_layer_status",
        "PeftModel.get_model_status", "PeftModel.create_or_update_model_card", "LoraModel.add_weighted_adapter",
        "LoraModel.merge_and_unload", "LoraModel.unload", "LoraModel.merge_adapter", "LoraModel.unmerge_adapter",
        "LoraModel.set_adapter", "LoraModel.delete_adapter", "LoraModel.enable_adapter_layers",
        "LoraModel.disable_adapter_layers", "LoraModel.set_requires_grad", "PeftConfig.save_pretrained",
        "PeftConfig.from_pretrained", "PeftConfig.to_dict",
    ),
    ".utils.hotswap": ("hotswap_adapter", "prepare_model_for_compiled_hotswap"),
    ".helpers": ("check_if_peft_model", "rescale_adapter_scale", "disable_input_dtype_casting"),
    ".optimizers": ("create_lorafa_optimizer", "create_loraplus_optimizer"),
    ".utils": ("_get_submodules", "infer_device"),
    ".functional": ("cast_adapter_dtype", "inject_adapter_in_model", "set_requires_grad"),
    ".tuners.lora": (
        "LoraLayer.merge", "LoraLayer.unmerge", "LoraLayer.set_adapter", "LoraLayer.enable_adapters",
        "LoraLayer.set_scale", "LoraLayer.scale_layer", "LoraLayer.unscale_layer", "LoraLayer.get_base_layer",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("path", "name"), [(path, name) for path, names in CALLED.items() for name in names])
def test_call__takes_the_arguments_of_peft_in_their_order(path: str, name: str) -> None:
    ours: object = importlib.import_module(f"lumora.peft{path}")
    theirs: object = importlib.import_module(f"peft{path}")
    for part in name.split("."):
        if not hasattr(theirs, part):  # peft's abstract layer declares less than its layers have
            theirs = importlib.import_module("peft.tuners.lora.layer").Linear
        ours, theirs = getattr(ours, part), getattr(theirs, part)
    expected = parameters(theirs)
    assert [p for p in parameters(ours) if p in expected] == expected
    assert parameters(ours)[: len(expected)] == expected or set(expected) <= set(parameters(ours))


@pytest.mark.parametrize("task", list(TaskType))
def test_task_type__chooses_the_class_of_the_model(task: TaskType) -> None:
    import peft

    class Base(nn.Module):
        """What peft asks of a model for any task."""

        config = {"model_type": "custom", "tie_word_embeddings": False}  # noqa: RUF012

        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(4, 4)
            self.classifier = nn.Linear(4, 2)

        def prepare_inputs_for_generation(self) -> None: ...

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.classifier(self.body(x))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peft.MODEL_TYPE_TO_PEFT_MODEL_MAPPING[task.value]
        ours = get_peft_model(Base(), LoraConfig(r=2, target_modules=["body"], task_type=task))
    assert type(ours).__name__ == theirs.__name__
    assert type(ours) is getattr(lumora.peft, theirs.__name__)
    assert isinstance(ours, PeftModel)
    assert torch.equal(ours(torch.ones(1, 4)), ours.get_base_model()(torch.ones(1, 4)))


def test_classifier_class__saves_the_classifier_without_being_told(tmp_path: object) -> None:
    base = nn.ModuleDict({"body": nn.Linear(4, 4), "classifier": nn.Linear(4, 2)})
    model = lumora.peft.PeftModelForSequenceClassification(base, LoraConfig(r=2, target_modules=["body"]))
    assert "classifier" in (model.modules_to_save or ())
    assert model.peft_config["default"].task_type == "SEQ_CLS"
    model.save_pretrained(str(tmp_path))
    fresh = nn.ModuleDict({"body": nn.Linear(4, 4), "classifier": nn.Linear(4, 2)})
    again = PeftModel.from_pretrained(fresh, str(tmp_path))
    assert type(again) is lumora.peft.PeftModelForSequenceClassification


def test_transformers_version__is_told_without_importing_it() -> None:
    import transformers

    from lumora.peft.import_utils import is_transformers_ge_v5

    assert is_transformers_ge_v5 == (int(transformers.__version__.partition(".")[0]) >= 5)


def test_importing_the_namespace__imports_neither_peft_nor_transformers() -> None:
    code = (
        "import sys, lumora.peft, lumora.peft.utils.hotswap, lumora.peft.helpers, lumora.peft.optimizers, "
        "lumora.peft.functional, lumora.peft.import_utils, lumora.peft.tuners.lora\n"
        "assert not {'peft', 'transformers', 'accelerate', 'timm', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
