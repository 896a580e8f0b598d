"""Image classification with LoRA: a ViT learns dishes from Food-101 while 0.77 % of its parameters are trained.

    python examples/image_classification_lora.py
    python examples/image_classification_lora.py --data my/pictures --limit 0  # a folder with a folder for each class
    python examples/image_classification_lora.py --push user/dishes

Model and pictures come from the Hub unless `--model` and `--data` are folders. What is trained is in `OUT/adapter`, and
as a model of its own, for `pipeline("image-classification")`, in `OUT/merged`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from datasets import load_dataset
from PIL import Image
from torchvision.transforms import (
    CenterCrop,
    Compose,
    Normalize,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    ToTensor,
)
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification, pipeline

from lumora import LoraConfig, PeftConfig, PeftModel, get_peft_model
from lumora.data import Labels
from lumora.integrations.transformers import Trainer, TrainingArguments
from lumora.tasks import Classification


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="google/vit-base-patch16-224-in21k", help="a name on the Hub, or a folder")
    parser.add_argument("--data", default="food101", help="a name on the Hub, or a folder with a folder for each class")
    parser.add_argument("--limit", type=int, default=5000, help="use the first so many pictures; 0 for all")
    parser.add_argument("--epochs", type=float, default=5)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--picture", type=Path, help="what to classify in the end; one that was held back if not given")
    parser.add_argument("--out", type=Path, default=Path("vit-base-patch16-224-in21k-finetuned-lora-food101"))
    parser.add_argument("--push", metavar="USER/NAME", help="a repository on the Hub for the adapter")
    return parser.parse_args(given)


def new_base(name: str, labels: Labels) -> torch.nn.Module:
    """The pretrained model with a new head for our classes."""
    return AutoModelForImageClassification.from_pretrained(
        name,
        label2id=labels.label2id,
        id2label=labels.id2label,
        ignore_mismatched_sizes=True,  # for checkpoints that have a head for other classes
    )


def adapt(base: torch.nn.Module) -> PeftModel:
    """LoRA in query and value of every block; the head is trained whole."""
    config = LoraConfig(
        r=16,
        lora_alpha=16,
        target_modules=["query", "value"],  # transformers 5 calls them q_proj and v_proj; a warning says so
        lora_dropout=0.1,
        bias="none",
        modules_to_save=["classifier"],
    )
    return get_peft_model(base, config)


def collate(examples: list[dict]) -> dict[str, torch.Tensor]:
    pixel_values = torch.stack([example["pixel_values"] for example in examples])
    labels = torch.tensor([example["label"] for example in examples])
    return {"pixel_values": pixel_values, "labels": labels}


def load(adapter: str | Path) -> tuple[PeftModel, object]:
    """The adapted model and its processor, from a folder or a repository that holds adapter, labels and processor."""
    config = PeftConfig.from_pretrained(adapter)
    base = AutoModelForImageClassification.from_pretrained(
        config.base_model_name_or_path, config=AutoConfig.from_pretrained(adapter), ignore_mismatched_sizes=True
    )
    return PeftModel.from_pretrained(base, adapter).eval(), AutoImageProcessor.from_pretrained(adapter)


def main(options: argparse.Namespace) -> None:
    # --- data ---------------------------------------------------------------------------------------------------------
    split = f"train[:{options.limit}]" if options.limit else "train"
    dataset = load_dataset(options.data, split=split)
    labels = Labels(tuple(dataset.features["label"].names))
    image_processor = AutoImageProcessor.from_pretrained(options.model)
    size = image_processor.size["height"]
    normalize = Normalize(mean=image_processor.image_mean, std=image_processor.image_std)
    train_transforms = Compose([RandomResizedCrop(size), RandomHorizontalFlip(), ToTensor(), normalize])
    val_transforms = Compose([Resize(size), CenterCrop(size), ToTensor(), normalize])

    def preprocess_train(batch: dict) -> dict:
        batch["pixel_values"] = [train_transforms(image.convert("RGB")) for image in batch["image"]]
        return batch

    def preprocess_val(batch: dict) -> dict:
        batch["pixel_values"] = [val_transforms(image.convert("RGB")) for image in batch["image"]]
        return batch

    splits = dataset.train_test_split(test_size=0.1, seed=0)
    train_ds, val_ds = splits["train"], splits["test"]
    picture = Image.open(options.picture) if options.picture else val_ds[0]["image"]
    train_ds.set_transform(preprocess_train)
    val_ds.set_transform(preprocess_val)
    print(f"{len(train_ds)} pictures to learn from, {len(val_ds)} held back, {len(labels)} classes")

    # --- model and training -------------------------------------------------------------------------------------------
    lora_model = adapt(new_base(options.model, labels))
    lora_model.print_trainable_parameters()
    task = Classification(labels)
    args = TrainingArguments(
        output_dir=str(options.out / "checkpoints"),
        remove_unused_columns=False,
        eval_strategy="epoch",
        save_strategy="epoch",
        learning_rate=5e-3,
        per_device_train_batch_size=options.batch,
        gradient_accumulation_steps=4,
        per_device_eval_batch_size=options.batch,
        fp16=torch.cuda.is_available(),
        num_train_epochs=options.epochs,
        logging_steps=10,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        report_to="none",
    )
    trainer = Trainer(
        lora_model,
        args,
        train_dataset=train_ds,
        eval_dataset=val_ds,
        processing_class=image_processor,
        compute_metrics=task.new_metrics(),
        data_collator=collate,
    )
    trainer.self_test(task)  # a perfect predictor scores 1, or nothing is trained
    trainer.train()
    print(f"accuracy on the pictures held back: {trainer.evaluate(val_ds)['eval_accuracy']:.3f}")

    # --- save, push, load again ---------------------------------------------------------------------------------------
    # Labels (in config.json) and processor lie beside the adapter, so that it can be used without this script.
    adapter = options.out / "adapter"
    for part in (lora_model, lora_model.config, image_processor):
        part.save_pretrained(adapter)
    print(f"{adapter}: {(adapter / 'adapter_model.safetensors').stat().st_size / 1e6:.2f} MB")
    if options.push:
        for part in (lora_model, lora_model.config, image_processor):
            part.push_to_hub(options.push)
    inference_model, image_processor = load(options.push or adapter)

    # --- one picture --------------------------------------------------------------------------------------------------
    encoding = image_processor(picture.convert("RGB"), return_tensors="pt")
    with torch.no_grad():
        logits = inference_model(**encoding).logits
    print("Predicted class:", inference_model.config.id2label[logits.argmax(-1).item()])

    merged = options.out / "merged"
    inference_model.merge_and_unload().save_pretrained(merged)
    image_processor.save_pretrained(merged)
    best = pipeline("image-classification", model=str(merged))(picture.convert("RGB"))[0]
    print(f"The same from a pipeline: {best['label']} ({best['score']:.2f})")


if __name__ == "__main__":
    main(arguments())
