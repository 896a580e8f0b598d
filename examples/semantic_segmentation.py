"""Semantic segmentation: all of SegFormer-B0 is trained on SceneParse150, as in transformers' own guide.

    python examples/semantic_segmentation.py
    python examples/semantic_segmentation.py --data my/scenes --labels names.json

Model and pictures come from the Hub unless `--model` and `--data` are folders; the data's is what
`datasets.save_to_disk` wrote, with a picture as "image" and a mask as "annotation" in each row. Masks are read as those
of SceneParse150: 0 is what nobody labelled, and the first class is 1. The model is in `OUT/model`, for
`pipeline("image-segmentation")`, and a picture of what it sees in `OUT/overlay.png`.
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
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation, pipeline

from lumora.data import Labels, ade20k
from lumora.integrations.transformers import Trainer, TrainingArguments
from lumora.tasks import Segmentation


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nvidia/mit-b0", help="a name on the Hub, or a folder")
    parser.add_argument("--data", default="merve/scene_parse_150", help="a name on the Hub, or a folder")
    parser.add_argument("--labels", type=Path, help='JSON: {"0": "wall", ...}; ADE20K\'s 150 classes if not given')
    parser.add_argument("--limit", type=int, default=50, help="use the first so many pictures; 0 for all")
    parser.add_argument("--epochs", type=float, default=50)
    parser.add_argument("--picture", type=Path, help="what to segment in the end; one that was held back if not given")
    parser.add_argument("--out", type=Path, default=Path("segformer-b0-scene-parse-150"))
    parser.add_argument("--push", metavar="USER/NAME", help="a repository on the Hub for the model")
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


def overlay(image: Image.Image, segmentation: torch.Tensor, labels: Labels) -> Image.Image:
    """The picture, half covered by the colours of its classes."""
    colours = np.array(labels.palette(), dtype=np.uint8)[segmentation.numpy()]  # (H, W, 3)
    return Image.fromarray((np.array(image.convert("RGB")) * 0.5 + colours * 0.5).astype(np.uint8))


def main(options: argparse.Namespace) -> None:
    # --- data ---------------------------------------------------------------------------------------------------------
    labels = read_labels(options.labels)
    splits = read_data(options.data, options.limit).train_test_split(test_size=0.2, seed=0)
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
    model = AutoModelForSemanticSegmentation.from_pretrained(
        options.model, id2label=labels.id2label, label2id=labels.label2id, ignore_mismatched_sizes=True
    )
    task = Segmentation(labels)
    training_args = TrainingArguments(
        output_dir=str(options.out / "checkpoints"),
        learning_rate=6e-5,
        num_train_epochs=options.epochs,
        per_device_train_batch_size=2,
        per_device_eval_batch_size=2,
        save_total_limit=3,
        eval_strategy="steps",
        save_strategy="steps",
        save_steps=20,
        eval_steps=20,
        logging_steps=1,
        remove_unused_columns=False,
        report_to="none",
    )
    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=train_ds,
        eval_dataset=test_ds,
        processing_class=image_processor,
        compute_metrics=task.new_metrics(),
    )
    trainer.self_test(task)  # a perfect predictor scores 1, or nothing is trained
    trainer.train()
    print(f"mean IoU on the pictures held back: {trainer.evaluate()['eval_mean_iou']:.3f}")
    saved = options.out / "model"
    trainer.save_model(str(saved))  # the model, its labels and its processor
    if options.push:
        model.push_to_hub(options.push)
        image_processor.push_to_hub(options.push)

    # --- inference: with a pipeline, and by hand ----------------------------------------------------------------------
    segmenter = pipeline("image-segmentation", model=str(saved))
    for result in segmenter(image.convert("RGB")):
        share = np.mean(np.array(result["mask"]) > 0)
        print(f"{result['label']}: {share:.0%} of the picture")

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).eval()
    pixel_values = image_processor(image.convert("RGB"), return_tensors="pt").pixel_values.to(device)
    with torch.no_grad():
        logits = model(pixel_values=pixel_values).logits.cpu()
    upsampled_logits = nn.functional.interpolate(logits, size=image.size[::-1], mode="bilinear", align_corners=False)
    pred_seg = upsampled_logits.argmax(dim=1)[0]
    overlay(image, pred_seg, labels).save(options.out / "overlay.png")
    print(f"{options.out / 'overlay.png'}:", ", ".join(labels.names[i] for i in pred_seg.unique()))


if __name__ == "__main__":
    main(arguments())
