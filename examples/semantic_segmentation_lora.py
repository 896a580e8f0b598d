"""Semantic segmentation with LoRA: SegFormer-B0 learns the 150 classes of SceneParse150; about 14 % of it is trained.

    python examples/semantic_segmentation_lora.py
    python examples/semantic_segmentation_lora.py --data my/scenes --labels names.json

Model and pictures come from the Hub unless `--model` and `--data` are folders; the data's is what
`datasets.save_to_disk` wrote, with a picture as "image" and a mask as "annotation" in each row. Masks are read as those
of SceneParse150: 0 is what nobody labelled, and the first class is 1. What is trained is in `OUT/adapter`, the same as
a model of its own, for `pipeline("image-segmentation")`, in `OUT/merged`, and a picture of it in `OUT/overlay.png`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, load_dataset, load_from_disk
from PIL import Image
from torch import nn
from torchvision.transforms import ColorJitter
from transformers import AutoConfig, AutoImageProcessor, AutoModelForSemanticSegmentation, pipeline

from lumora import LoraConfig, PeftConfig, PeftModel, get_peft_model
from lumora.data import Labels, ade20k
from lumora.integrations.transformers import Trainer, TrainingArguments
from lumora.tasks import Segmentation


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nvidia/mit-b0", help="a name on the Hub, or a folder")
    parser.add_argument("--data", default="merve/scene_parse_150", help="a name on the Hub, or a folder")
    parser.add_argument("--labels", type=Path, help='JSON: {"0": "wall", ...}; ADE20K\'s 150 classes if not given')
    parser.add_argument("--limit", type=int, default=150, help="use the first so many pictures; 0 for all")
    parser.add_argument("--epochs", type=float, default=50)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--picture", type=Path, help="what to segment in the end; one that was held back if not given")
    parser.add_argument("--out", type=Path, default=Path("mit-b0-scene-parse-150-lora"))
    parser.add_argument("--push", metavar="USER/NAME", help="a repository on the Hub for the adapter")
    return parser.parse_args(given)


def read_labels(path: Path | None) -> Labels:
    """The names of the classes, and ADE20K's colours for drawing."""
    if path is None:
        return ade20k()
    names = json.loads(path.read_text(encoding="utf-8"))
    return Labels(tuple(names[str(i)] for i in range(len(names))), ade20k().palette()[: len(names)])


def read_data(name: str, limit: int) -> Dataset:
    if Path(name).is_dir():
        dataset = load_from_disk(name)
        return dataset.select(range(min(limit, len(dataset)))) if limit else dataset
    return load_dataset(name, split=f"train[:{limit}]" if limit else "train")


def new_base(name: str, labels: Labels) -> nn.Module:
    """The pretrained encoder with a new decode head for our classes."""
    return AutoModelForSemanticSegmentation.from_pretrained(
        name, id2label=labels.id2label, label2id=labels.label2id, ignore_mismatched_sizes=True
    )


def adapt(base: nn.Module) -> PeftModel:
    """LoRA in query and value of every block, with their biases; the decode head is trained whole."""
    config = LoraConfig(
        r=32,
        lora_alpha=32,
        target_modules=["query", "value"],  # transformers 5 calls them q_proj and v_proj; a warning says so
        lora_dropout=0.1,
        bias="lora_only",
        modules_to_save=["decode_head"],
    )
    return get_peft_model(base, config)


def load(adapter: str | Path) -> tuple[PeftModel, object]:
    """The adapted model and its processor, from a folder or a repository that holds adapter, labels and processor."""
    config = PeftConfig.from_pretrained(adapter)
    base = AutoModelForSemanticSegmentation.from_pretrained(
        config.base_model_name_or_path, config=AutoConfig.from_pretrained(adapter), ignore_mismatched_sizes=True
    )
    return PeftModel.from_pretrained(base, adapter).eval(), AutoImageProcessor.from_pretrained(adapter)


def overlay(image: Image.Image, segmentation: torch.Tensor, labels: Labels) -> Image.Image:
    """The picture, half covered by the colours of its classes."""
    colours = np.array(labels.palette(), dtype=np.uint8)[segmentation.numpy()]  # (H, W, 3)
    return Image.fromarray((np.array(image.convert("RGB")) * 0.5 + colours * 0.5).astype(np.uint8))


def main(options: argparse.Namespace) -> None:
    # --- data ---------------------------------------------------------------------------------------------------------
    labels = read_labels(options.labels)
    splits = read_data(options.data, options.limit).train_test_split(test_size=0.1, seed=0)
    train_ds, test_ds = splits["train"], splits["test"]
    image = Image.open(options.picture) if options.picture else test_ds[0]["image"]
    # The mask's 0 becomes 255, which counts nowhere, and classes start at 0. It is done here and nowhere else.
    image_processor = AutoImageProcessor.from_pretrained(options.model, do_reduce_labels=True)
    jitter = ColorJitter(brightness=0.25, contrast=0.25, saturation=0.25, hue=0.1)

    def train_transforms(batch: dict) -> dict:
        return image_processor([jitter(x.convert("RGB")) for x in batch["image"]], batch["annotation"])

    def val_transforms(batch: dict) -> dict:
        return image_processor([x.convert("RGB") for x in batch["image"]], batch["annotation"])

    train_ds.set_transform(train_transforms)
    test_ds.set_transform(val_transforms)
    print(f"{len(train_ds)} pictures to learn from, {len(test_ds)} held back, {len(labels)} classes")

    # --- model and training -------------------------------------------------------------------------------------------
    lora_model = adapt(new_base(options.model, labels))
    lora_model.print_trainable_parameters()
    task = Segmentation(labels)
    training_args = TrainingArguments(
        output_dir=str(options.out / "checkpoints"),
        learning_rate=5e-4,
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch,
        per_device_eval_batch_size=2,
        save_total_limit=3,
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_steps=5,
        remove_unused_columns=False,
        report_to="none",
    )
    trainer = Trainer(
        model=lora_model,
        args=training_args,
        train_dataset=train_ds,
        eval_dataset=test_ds,
        processing_class=image_processor,
        compute_metrics=task.new_metrics(),
    )
    trainer.self_test(task)  # a perfect predictor scores 1, or nothing is trained
    trainer.train()
    print(f"mean IoU on the pictures held back: {trainer.evaluate()['eval_mean_iou']:.3f}")

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
    encoding = image_processor(image.convert("RGB"), return_tensors="pt")
    with torch.no_grad():
        logits = inference_model(pixel_values=encoding.pixel_values).logits
    upsampled_logits = nn.functional.interpolate(logits, size=image.size[::-1], mode="bilinear", align_corners=False)
    pred_seg = upsampled_logits.argmax(dim=1)[0]
    overlay(image, pred_seg, labels).save(options.out / "overlay.png")
    print(f"{options.out / 'overlay.png'}:", ", ".join(labels.names[i] for i in pred_seg.unique()))

    merged = options.out / "merged"
    inference_model.merge_and_unload().save_pretrained(merged)
    image_processor.save_pretrained(merged)
    results = pipeline("image-segmentation", model=str(merged))(image.convert("RGB"))
    print("The same from a pipeline:", ", ".join(result["label"] for result in results))


if __name__ == "__main__":
    main(arguments())
