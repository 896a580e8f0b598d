"""The guides of PEFT and transformers for images, with our model and our `Trainer`, on generated pictures."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from datasets import Dataset
from PIL import Image
from tests.hub_server import TOKEN, Client, Hub, serving
from tests.tiny_models import save_segformer, save_vit
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForSemanticSegmentation,
    ViTForImageClassification,
    pipeline,
    set_seed,
)

from lumora import LoraConfig, PeftConfig, PeftModel, get_peft_model
from lumora.integrations.transformers import Trainer, TrainingArguments

LABELS = ("dark", "light", "red")
ADAPTER_FILES = {"adapter_config.json", "adapter_model.safetensors", "README.md"}
STATE_FILES = {"optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "training_args.json"}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """transformers 5 renamed the layers that the guides name; ours says so every time."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is called.*in this version of the model.*")
        yield


# --- data and models, small -------------------------------------------------------------------------------------------


def picture(label: int, seed: int, size: int = 40) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 60, (size, size, 3))
    noise += {0: np.array([10, 10, 10]), 1: np.array([190, 190, 190]), 2: np.array([190, 10, 10])}[label]
    return Image.fromarray(noise.astype(np.uint8))


def classified(count: int) -> Dataset:
    labels = [i % 3 for i in range(count)]
    return Dataset.from_list([{"image": picture(label, i), "label": label} for i, label in enumerate(labels)])


def scenes(count: int) -> Dataset:
    """Pictures with a bright square on the dark, and masks that say where."""
    rows: list[dict[str, Any]] = []
    for i in range(count):
        pixels = np.array(picture(0, i, 48))
        mask = np.zeros((48, 48), dtype=np.uint8)
        left, top = np.random.default_rng(i).integers(4, 20, 2)
        pixels[top : top + 20, left : left + 20] += 150
        mask[top : top + 20, left : left + 20] = 1
        rows.append({"image": Image.fromarray(pixels), "annotation": Image.fromarray(mask)})
    return Dataset.from_list(rows)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vit(tmp_path_factory.mktemp("vit"), seed=1)


@pytest.fixture(scope="module")
def segformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_segformer(tmp_path_factory.mktemp("segformer"), seed=1, side=32)


def vit_base(vit: Path) -> Any:
    set_seed(2)  # the head is drawn anew
    return AutoModelForImageClassification.from_pretrained(
        vit,
        label2id={label: i for i, label in enumerate(LABELS)},
        id2label=dict(enumerate(LABELS)),
        ignore_mismatched_sizes=True,
    )


def segformer_base(segformer: Path) -> Any:
    set_seed(2)
    return AutoModelForSemanticSegmentation.from_pretrained(
        segformer,
        id2label={0: "ground", 1: "square"},
        label2id={"ground": 0, "square": 1},
        ignore_mismatched_sizes=True,
    )


def vit_adapted(vit: Path, **changes: Any) -> PeftModel:
    config: dict[str, Any] = {
        "r": 16,
        "lora_alpha": 16,
        "target_modules": ["query", "value"],
        "lora_dropout": 0.1,
        "bias": "none",
        "modules_to_save": ["classifier"],
    }
    base = vit_base(vit)
    set_seed(3)
    return get_peft_model(base, LoraConfig(**config | changes))


def segformer_adapted(segformer: Path) -> PeftModel:
    config = LoraConfig(
        r=32,
        lora_alpha=32,
        target_modules=["query", "value"],
        lora_dropout=0.1,
        bias="lora_only",
        modules_to_save=["decode_head"],
    )
    base = segformer_base(segformer)
    set_seed(3)
    return get_peft_model(base, config)


def vit_data(vit: Path, count: int) -> Dataset:
    processor = AutoImageProcessor.from_pretrained(vit)

    def preprocess(batch: dict[str, Any]) -> dict[str, Any]:
        batch["pixel_values"] = [processor(image, return_tensors="pt")["pixel_values"][0] for image in batch["image"]]
        return batch

    data = classified(count)
    data.set_transform(preprocess)
    return data


def collate(examples: list[dict[str, Any]]) -> dict[str, Tensor]:
    pixel_values = torch.stack([example["pixel_values"] for example in examples])
    return {"pixel_values": pixel_values, "labels": torch.tensor([example["label"] for example in examples])}


def accuracy(predicted: Any) -> dict[str, float]:
    assert predicted.label_ids is not None
    return {"accuracy": float((predicted.predictions.argmax(-1) == predicted.label_ids).mean())}


def segformer_data(segformer: Path, count: int) -> Dataset:
    processor = AutoImageProcessor.from_pretrained(segformer)
    data = scenes(count)
    data.set_transform(lambda batch: processor(batch["image"], batch["annotation"]))
    return data


def pixel_accuracy(predicted: Any) -> dict[str, float]:
    logits = torch.from_numpy(predicted.predictions)
    labels = predicted.label_ids
    larger = torch.nn.functional.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    return {"pixel_accuracy": float((larger.argmax(1).numpy() == labels).mean())}


def arguments(folder: Path, **changes: Any) -> TrainingArguments:
    values: dict[str, Any] = {
        "output_dir": str(folder),
        "remove_unused_columns": False,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "learning_rate": 5e-3,
        "per_device_train_batch_size": 6,
        "per_device_eval_batch_size": 6,
        "num_train_epochs": 2,
        "logging_steps": 1,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
    }
    return TrainingArguments(**values | changes)


def vit_trainer(vit: Path, folder: Path, model: Any = None, kind: type = Trainer, **changes: Any) -> Any:
    return kind(
        vit_adapted(vit) if model is None else model,
        arguments(folder, **changes),
        train_dataset=vit_data(vit, 12),
        eval_dataset=vit_data(vit, 9),
        processing_class=AutoImageProcessor.from_pretrained(vit),
        compute_metrics=accuracy,
        data_collator=collate,
    )


def learned(model: Any) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- guide 1: image classification with LoRA --------------------------------------------------------------------------


def test_guide_1__trains_evaluates_saves_and_loads(vit: Path, tmp_path: Path) -> None:
    model = vit_adapted(vit)
    # query and value of two layers: r·(in + out) each; the head: weight and bias
    assert model.get_nb_trainable_parameters()[0] == 2 * 2 * 16 * (16 + 16) + 16 * 3 + 3
    start = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = vit_trainer(
        vit,
        tmp_path / "run",
        model,
        num_train_epochs=4,
        gradient_accumulation_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
    )
    result = trainer.train()
    assert result.metrics["train_loss"] > 0
    metrics = trainer.evaluate(vit_data(vit, 9))
    assert {"eval_loss", "eval_accuracy"} <= metrics.keys()
    best = max(log["eval_accuracy"] for log in trainer.state.log_history if "eval_accuracy" in log)
    assert metrics["eval_accuracy"] == best > 0.6

    trained = learned(model)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, start[name])}
    assert changed == trained.keys()

    model.save_pretrained(tmp_path / "adapter")
    config = PeftConfig.from_pretrained(str(tmp_path / "adapter"))
    assert config.base_model_name_or_path == str(vit)
    inference = PeftModel.from_pretrained(vit_base(Path(config.base_model_name_or_path)), tmp_path / "adapter").eval()
    pixels = torch.stack([example["pixel_values"] for example in vit_data(vit, 3)])
    with torch.no_grad():
        logits = inference(pixel_values=pixels).logits
        assert torch.equal(logits, model.eval()(pixel_values=pixels).logits)
    assert inference.config.id2label[int(logits[1].argmax())] in LABELS


def test_checkpoints__hold_the_adapters_and_the_state_only(vit: Path, tmp_path: Path) -> None:
    trainer = vit_trainer(vit, tmp_path, num_train_epochs=1)
    trainer.train()
    checkpoint = tmp_path / "checkpoint-2"
    assert names_in(checkpoint) == ADAPTER_FILES | STATE_FILES | {"preprocessor_config.json"}
    stored = safetensors.torch.load_file(checkpoint / "adapter_model.safetensors")
    assert {key.rpartition(".")[0].removeprefix("base_model.model.") for key in stored} == {
        f"vit.layers.{layer}.attention.{name}.{part}"
        for layer in (0, 1)
        for name in ("q_proj", "v_proj")
        for part in ("lora_A", "lora_B")
    } | {"classifier"}
    assert json.loads((checkpoint / "adapter_config.json").read_text())["base_model_name_or_path"] == str(vit)
    trainer.save_model(str(tmp_path / "final"))
    assert names_in(tmp_path / "final") == ADAPTER_FILES | {"training_args.json", "preprocessor_config.json"}
    loaded = PeftModel.from_pretrained(vit_base(vit), tmp_path / "final", is_trainable=True)
    assert same(learned(loaded), learned(trainer.model))


@pytest.mark.parametrize("steps", [1, 3], ids=["in an epoch", "in a later epoch"])
def test_resume__gives_what_an_uninterrupted_run_gives(vit: Path, tmp_path: Path, steps: int) -> None:
    options = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "no", "num_train_epochs": 2}
    whole = vit_trainer(vit, tmp_path / "whole", **options)
    whole.train()
    assert whole.state.global_step == 4

    again = vit_trainer(vit, tmp_path / "whole", **options)
    with torch.no_grad():
        for parameter in learned(again.model):
            again.model.get_parameter(parameter).fill_(7.0)  # nothing of the start may remain
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{steps}"))
    assert same(learned(again.model), learned(whole.model))
    assert all(p.requires_grad == (name in learned(whole.model)) for name, p in again.model.named_parameters())
    losses = [[log["loss"] for log in t.state.log_history if "loss" in log] for t in (whole, again)]
    assert losses[0] == losses[1]


def test_resume__of_the_last_checkpoint_in_the_folder(vit: Path, tmp_path: Path) -> None:
    vit_trainer(vit, tmp_path, num_train_epochs=1, eval_strategy="no").train()
    trainer = vit_trainer(vit, tmp_path, num_train_epochs=2, eval_strategy="no")
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 4
    with pytest.raises(ValueError, match="checkpoint"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "nowhere"))


def test_best_model__is_put_back_at_the_end(vit: Path, tmp_path: Path) -> None:
    scores = iter([0.1, 0.9, 0.3])
    trainer = vit_trainer(
        vit, tmp_path, num_train_epochs=3, load_best_model_at_end=True, metric_for_best_model="accuracy"
    )
    trainer.compute_metrics = lambda predicted: {"accuracy": next(scores)}
    trainer.train()
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-4")
    best = PeftModel.from_pretrained(vit_base(vit), tmp_path / "checkpoint-4", is_trainable=True)
    last = PeftModel.from_pretrained(vit_base(vit), tmp_path / "checkpoint-6", is_trainable=True)
    assert same(learned(trainer.model), learned(best)) and not same(learned(best), learned(last))


def test_several_adapters__are_all_saved_and_resumed(vit: Path, tmp_path: Path) -> None:
    def make() -> PeftModel:
        model = vit_adapted(vit)
        model.add_adapter("second", LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
        return model

    options = {"num_train_epochs": 2, "eval_strategy": "no"}
    trainer = vit_trainer(vit, tmp_path, make(), **options)
    trainer.train()
    assert names_in(tmp_path / "checkpoint-2") >= ADAPTER_FILES | {"second"}
    again = vit_trainer(vit, tmp_path, make(), **options)
    with torch.no_grad():
        for layer in again.model.modules():
            if "second" in getattr(layer, "lora_A", {}):
                layer.lora_A["second"].weight.zero_()
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert same(again.model.state_dict(), trainer.model.state_dict())
    assert same(learned(again.model), learned(trainer.model))


def test_adapter_of_another_name__lies_in_its_folder(vit: Path, tmp_path: Path) -> None:
    def make() -> PeftModel:
        return get_peft_model(vit_base(vit), LoraConfig(r=2, target_modules=["q_proj"]), adapter_name="mine")

    options = {"num_train_epochs": 1, "load_best_model_at_end": True, "metric_for_best_model": "accuracy"}
    trainer = vit_trainer(vit, tmp_path, make(), **options)
    trainer.train()
    assert names_in(tmp_path / "checkpoint-2" / "mine") == ADAPTER_FILES
    again = vit_trainer(vit, tmp_path, make(), **options | {"num_train_epochs": 2})
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 4


# --- what the base says -----------------------------------------------------------------------------------------------


def test_labels_and_columns__are_those_of_the_base(vit: Path, tmp_path: Path) -> None:
    trainer = vit_trainer(vit, tmp_path, remove_unused_columns=True)
    assert trainer.label_names == ["labels"]
    plain = vit_trainer(vit, tmp_path, vit_base(vit), transformers.Trainer, remove_unused_columns=True)
    for one in (trainer, plain):
        one._set_signature_columns_if_needed()
    assert set(trainer._signature_columns) == set(plain._signature_columns)
    assert trainer.can_return_loss == plain.can_return_loss
    assert trainer.model_accepts_loss_kwargs == plain.model_accepts_loss_kwargs
    given = vit_trainer(vit, tmp_path, label_names=["labels", "other"])
    assert given.label_names == ["labels", "other"]


def test_unused_columns__are_removed(vit: Path, tmp_path: Path) -> None:
    rows = [collate([example]) for example in vit_data(vit, 6)]
    data = Dataset.from_list(
        [{"pixel_values": r["pixel_values"][0].tolist(), "labels": int(r["labels"]), "note": "unused"} for r in rows]
    ).with_format("torch")
    trainer = Trainer(
        vit_adapted(vit),
        arguments(tmp_path, remove_unused_columns=True, num_train_epochs=1, save_strategy="no"),
        train_dataset=data,
        eval_dataset=data,
        compute_metrics=accuracy,
    )
    trainer.train()
    assert 0 <= trainer.evaluate()["eval_accuracy"] <= 1


class StrictForImageClassification(ViTForImageClassification):
    """A base that takes two arguments and nothing else."""

    def forward(self, pixel_values: Tensor, labels: Tensor) -> Any:  # type: ignore[override]
        return super().forward(pixel_values=pixel_values, labels=labels)


def test_base_without_further_arguments__is_given_none(vit: Path, tmp_path: Path) -> None:
    set_seed(2)
    base = StrictForImageClassification.from_pretrained(vit, num_labels=3, ignore_mismatched_sizes=True)
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["classifier"]))
    trainer = vit_trainer(vit, tmp_path, model, num_train_epochs=1, save_strategy="no")
    assert trainer.model_accepts_loss_kwargs is False
    trainer.train()


def test_predict__gives_logits_and_labels(vit: Path, tmp_path: Path) -> None:
    trainer = vit_trainer(vit, tmp_path)
    predicted = trainer.predict(vit_data(vit, 5))
    assert predicted.predictions.shape == (5, 3) and predicted.label_ids.tolist() == [0, 1, 2, 0, 1]
    rows = collate(list(vit_data(vit, 5)))
    with torch.no_grad():
        expected = trainer.model.eval()(pixel_values=rows["pixel_values"]).logits
    np.testing.assert_allclose(predicted.predictions, expected.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing__gives_the_same_adapters(vit: Path, tmp_path: Path, reentrant: bool) -> None:
    results: list[dict[str, Tensor]] = []
    for options in (
        {},
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": reentrant}},
    ):
        trainer = vit_trainer(
            vit,
            tmp_path,
            vit_adapted(vit, lora_dropout=0.0),
            num_train_epochs=1,
            eval_strategy="no",
            save_strategy="no",
            max_grad_norm=0.0,
            optim="sgd",
            learning_rate=0.1,
            **options,
        )
        trainer.train()
        results.append(learned(trainer.model))
    plain, saving = results
    start = learned(vit_adapted(vit, lora_dropout=0.0))
    assert any("lora_B" in name and not torch.equal(value, start[name]) for name, value in saving.items())
    for name, value in plain.items():
        torch.testing.assert_close(saving[name], value, rtol=1e-4, atol=1e-6)


def test_training__is_that_of_the_stock_trainer_with_peft(vit: Path, tmp_path: Path) -> None:
    import peft

    results: list[dict[str, Tensor]] = []
    for library, kind in ((peft, transformers.Trainer), (None, Trainer)):
        options = {"r": 4, "target_modules": ["q_proj", "v_proj"], "modules_to_save": ["classifier"]}
        base = vit_base(vit)
        if library is None:
            model: Any = get_peft_model(base, LoraConfig(**options))
        else:
            model = library.get_peft_model(base, library.LoraConfig(**options))
        with torch.no_grad():
            for i, parameter in enumerate(p for p in model.parameters() if p.requires_grad):
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)) / 5)
        trainer = vit_trainer(vit, tmp_path / str(len(results)), model, kind, num_train_epochs=1)
        trainer.train()
        results.append(learned(model))
    theirs, ours = results
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-4)


# --- guide 2: semantic segmentation with LoRA -------------------------------------------------------------------------


def test_guide_2__trains_evaluates_saves_resumes_and_loads(segformer: Path, tmp_path: Path) -> None:
    def trainer_for(model: Any, epochs: int) -> Any:
        return Trainer(
            model=model,
            args=arguments(tmp_path / "run", num_train_epochs=epochs, learning_rate=1e-2),
            train_dataset=segformer_data(segformer, 12),
            eval_dataset=segformer_data(segformer, 6),
            compute_metrics=pixel_accuracy,
        )

    model = segformer_adapted(segformer)
    whole = trainer_for(model, 2)
    whole.train()
    trained = {name.rpartition(".")[2] for name in learned(model)}
    assert trained >= {"weight", "bias"}
    biases = {name for name in learned(model) if name.endswith("base_layer.bias")}
    assert len(biases) == 8  # query and value of four blocks
    assert whole.evaluate()["eval_pixel_accuracy"] > 0.6

    checkpoint = tmp_path / "run" / "checkpoint-2"
    assert names_in(checkpoint) == ADAPTER_FILES | STATE_FILES
    stored = safetensors.torch.load_file(checkpoint / "adapter_model.safetensors")
    assert "base_model.model.decode_head.batch_norm.running_mean" in stored
    assert len([key for key in stored if key.endswith("base_layer.bias")]) == 8

    again = trainer_for(segformer_adapted(segformer), 2)
    again.train(resume_from_checkpoint=str(checkpoint))
    assert same(again.model.state_dict(), model.state_dict())

    model.save_pretrained(tmp_path / "adapter")
    config = PeftConfig.from_pretrained(str(tmp_path / "adapter"))
    base = segformer_base(Path(str(config.base_model_name_or_path)))
    inference = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    pixels = torch.as_tensor(np.stack([row["pixel_values"] for row in segformer_data(segformer, 2)]))
    model.requires_grad_(False)  # torch itself multiplies in another order where a weight learns
    with torch.no_grad():
        assert torch.equal(inference(pixel_values=pixels).logits, model.eval()(pixel_values=pixels).logits)


# --- guide 3: full fine-tuning ----------------------------------------------------------------------------------------


def test_guide_3__without_adapters_everything_is_as_with_the_stock_trainer(segformer: Path, tmp_path: Path) -> None:
    trained: list[Any] = []
    for kind in (Trainer, transformers.Trainer):
        trainer = kind(
            model=segformer_base(segformer),
            args=arguments(
                tmp_path / kind.__module__.split(".")[0],
                num_train_epochs=2,
                load_best_model_at_end=True,
                metric_for_best_model="pixel_accuracy",
            ),
            train_dataset=segformer_data(segformer, 6),
            eval_dataset=segformer_data(segformer, 6),
            compute_metrics=pixel_accuracy,
            processing_class=AutoImageProcessor.from_pretrained(segformer),
        )
        trainer.train()
        trained.append(trainer)
    ours, stock = trained
    assert same(ours.model.state_dict(), stock.model.state_dict())
    assert ours.evaluate()["eval_pixel_accuracy"] == stock.evaluate()["eval_pixel_accuracy"]
    folders = [tmp_path / name / "checkpoint-2" for name in ("lumora", "transformers")]
    assert names_in(folders[0]) == names_in(folders[1]) and "model.safetensors" in names_in(folders[0])

    ours.save_model(str(tmp_path / "final"))
    segmenter = pipeline("image-segmentation", model=str(tmp_path / "final"), device="cpu")
    answer = segmenter(scenes(1)[0]["image"])
    assert {part["label"] for part in answer} <= {"ground", "square"}


# --- models made by the trainer, and the stock trainer ----------------------------------------------------------------


def test_model_init__may_make_an_adapted_model(vit: Path, tmp_path: Path) -> None:
    trainer = Trainer(
        model_init=lambda: vit_adapted(vit),
        args=arguments(tmp_path, num_train_epochs=1),
        train_dataset=vit_data(vit, 6),
        eval_dataset=vit_data(vit, 6),
        compute_metrics=accuracy,
        data_collator=collate,
    )
    trainer.train()
    assert "eval_accuracy" in trainer.evaluate() and "model.safetensors" not in names_in(tmp_path / "checkpoint-1")


def test_stock_trainer__trains_our_model_but_knows_it_not(vit: Path, tmp_path: Path) -> None:
    trainer = vit_trainer(vit, tmp_path, kind=transformers.Trainer, num_train_epochs=1, label_names=["labels"])
    trainer.train()
    assert "eval_accuracy" in trainer.evaluate()
    assert "model.safetensors" in names_in(tmp_path / "checkpoint-2")
    unnamed = vit_trainer(vit, tmp_path, kind=transformers.Trainer)
    assert unnamed.label_names == []


# --- the Hub ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as hub:
        yield hub


def train_and_push(vit: Path, folder: Path) -> Any:
    trainer = vit_trainer(
        vit,
        folder,
        num_train_epochs=1,
        push_to_hub=True,
        hub_model_id="user/leaves",
        hub_token=TOKEN,
        hub_strategy="end",
    )
    trainer.train()
    trainer.push_to_hub(commit_message="Trained", tags=["leaves"])
    loaded = PeftModel.from_pretrained(vit_base(vit), "user/leaves", is_trainable=True)
    return same(learned(loaded), learned(trainer.model))


@pytest.mark.slow
def test_push__sends_the_adapter_with_the_card_of_the_training(vit: Path, tmp_path: Path, hub: Hub) -> None:
    client = Client(hub.url, tmp_path / "home")
    work: Callable[..., Any] = train_and_push
    assert client.run(work, vit, tmp_path / "leaves", seconds=120) is True
    files = hub.repositories["user/leaves"].files()
    assert files.keys() >= ADAPTER_FILES | {"preprocessor_config.json", "training_args.json"}
    assert not any(name == "model.safetensors" or name.startswith("checkpoint") for name in files)
    card = files["README.md"].decode()
    assert "library_name: peft" in card and "- lora" in card and "- leaves" in card and "Training results" in card
