"""Semantic segmentation in Keras, on TensorFlow, JAX or torch: the TensorFlow half of transformers' guide, today.

    python examples/semantic_segmentation_keras.py
    KERAS_BACKEND=jax python examples/semantic_segmentation_keras.py --lora
    python examples/semantic_segmentation_keras.py --model mit_b0_ade20k_512 --data merve/scene_parse_150 --size 512

Without arguments a small SegFormer learns generated landscapes; nothing is fetched. `--model` names a preset of
KerasHub for SegFormer's encoder. `--data` comes from the Hub unless it is a folder that `datasets.save_to_disk` wrote;
masks are read as those of SceneParse150: 0 is what nobody labelled, and the first class is 1. The run lies in `OUT`,
its bundle in `OUT/bundle`, and a picture of what the model sees in `OUT/overlay.png`. Needs
`pip install 'lumora[keras]'` and a backend.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from datasets import load_dataset, load_from_disk
from PIL import Image

import lumora
from lumora import LoraConfig
from lumora.bundle import About
from lumora.data import Source, open_source
from lumora.data.scenes import scenes
from lumora.data.transforms import segmentation_eval, segmentation_train
from lumora.integrations.keras import (
    BundleCallback,
    MetricCallback,
    PushCallback,
    RunCallback,
    apply_lora,
    create_optimizer,
    describe,
    evaluate,
    print_trainable_parameters,
    to_tf_dataset,
)
from lumora.integrations.keras.library import keras, keras_hub
from lumora.models import Preprocessing
from lumora.tasks import task_for

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", help="a preset of KerasHub, such as mit_b0_ade20k_512; a small fresh one if not given"
    )
    parser.add_argument("--data", help="a name on the Hub, or a folder; generated landscapes if not given")
    parser.add_argument("--limit", type=int, default=50, help="use the first so many pictures; 0 for all")
    parser.add_argument("--size", type=int, default=64, help="of the pictures that the model sees")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rate", type=float, default=6e-4)
    parser.add_argument("--lora", action="store_true", help="adapters and the head learn, not all weights")
    parser.add_argument("--out", type=Path, default=Path("segformer-keras"))
    parser.add_argument("--push", metavar="USER/NAME", help="a repository on the Hub for the bundle")
    return parser.parse_args(given)


def read_data(name: str | None, limit: int, size: int) -> Source:
    if name is None:
        return scenes(40, size, task="segmentation")
    dataset = load_from_disk(name) if Path(name).is_dir() else load_dataset(name, split="train")
    chosen = dataset.select(range(min(limit, len(dataset)))) if limit else dataset
    # The mask's 0 becomes 255, which counts nowhere, and classes start at 0. It is done here and nowhere else.
    return open_source(chosen, task="segmentation", labels="ade20k", reduce_labels=True)


def build(preset: str | None, size: int, classes: int) -> keras.Model:
    """SegFormer with a fresh head; the same one at every call."""
    keras.utils.set_random_seed(0)
    models = keras_hub().models
    if preset:
        encoder = models.MiTBackbone.from_preset(preset, image_shape=(size, size, 3))
    else:
        encoder = models.MiTBackbone(
            layerwise_depths=[1, 1, 1, 1],
            num_layers=4,
            layerwise_num_heads=[1, 1, 2, 2],
            layerwise_sr_ratios=[4, 2, 1, 1],
            max_drop_path_rate=0.1,
            layerwise_patch_sizes=[7, 3, 3, 3],
            layerwise_strides=[4, 2, 2, 2],
            image_shape=(size, size, 3),
            hidden_dims=[8, 12, 16, 24],
        )
    backbone = models.SegFormerBackbone(image_encoder=encoder, projection_filters=256 if preset else 16)
    return models.SegFormerImageSegmenter(backbone=backbone, num_classes=classes)


def with_adapters(model: keras.Model) -> keras.Model:
    """Adapters in the attention; the decode head is fresh, and trained whole."""
    head = [layer.name for layer in model.backbone.mlp_blocks] + ["linear_fuse", "output_segmentation_head"]
    return apply_lora(model, LoraConfig(r=32, lora_alpha=32, target_modules=["q", "v"], modules_to_save=head))


def overlay(picture: Image.Image, mask: np.ndarray, palette: tuple) -> Image.Image:
    """The picture, half covered by the colours of its classes."""
    colours = np.array(palette, dtype=np.uint8)[mask]  # (H, W, 3)
    return Image.fromarray((np.array(picture) * 0.5 + colours * 0.5).astype(np.uint8))


def main(options: argparse.Namespace) -> None:
    # --- data: KerasHub's models take tf.data on every backend -------------------------------------------------------
    source = read_data(options.data, options.limit, options.size)
    task = task_for(source)
    training = segmentation_train(options.size, MEAN, STD)  # scale, crop, flip and colour, mask and picture together
    measuring = segmentation_eval(options.size, MEAN, STD)
    train_set = to_tf_dataset(source, task, training, batch_size=options.batch_size)
    eval_set = to_tf_dataset(source, task, measuring, split="validation", batch_size=options.batch_size, shuffle=False)

    # --- model, optimizer, loss ---------------------------------------------------------------------------------------
    model = build(options.model, options.size, len(task.labels))
    if options.lora:
        with_adapters(model)
    print_trainable_parameters(model)
    steps = options.epochs * len(train_set)
    optimizer, _ = create_optimizer(options.rate, steps, steps // 10, weight_decay_rate=0.01)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=task.labels.ignore)
    model.compile(optimizer, loss, metrics=[])  # KerasHub's own choice does not know masks of class ids

    # --- training, with the metric, the bundle of the best epoch, and the Hub -----------------------------------------
    seen = Preprocessing(resize=(options.size, options.size), mean=MEAN, std=STD)
    measured = MetricCallback(task, eval_set)

    def about(trained: keras.Model, scores: dict) -> About:
        per_class = measured.scores.per_class if measured.scores else None
        return describe(trained, task, seen, (options.size, options.size), metrics=scores, per_class=per_class)

    run = RunCallback(options.out, source)
    callbacks = [measured, BundleCallback(run.bundle, about)]
    if options.push:
        base = build(options.model, options.size, len(task.labels))
        callbacks.append(PushCallback(run.bundle, options.push, base=base))
    callbacks.append(run)  # after the bundle, which its rows and its report are about
    model.fit(train_set, epochs=options.epochs, callbacks=callbacks, verbose=2)
    print(f"mean IoU on the pictures held back: {evaluate(model, task, eval_set)['mean_iou']:.3f}")

    # --- inference: with the bundle, and by hand ----------------------------------------------------------------------
    picture = Image.fromarray(source.splits["validation"][0].picture().permute(1, 2, 0).numpy())
    predictor = lumora.load(run.bundle, base=build(options.model, options.size, len(task.labels)))
    prediction = predictor.predict(picture)
    print("the bundle sees", ", ".join(task.labels.names[i] for i in prediction.mask.unique()))

    pixels = (np.array(picture.resize((options.size, options.size)), "float32") / 255 - MEAN) / STD
    logits = model.predict(pixels[None].astype("float32"), verbose=0)
    logits = keras.ops.image.resize(logits, (picture.height, picture.width), interpolation="bilinear")
    mask = np.argmax(keras.ops.convert_to_numpy(logits)[0], axis=-1)
    overlay(picture, mask, task.labels.palette()).save(options.out / "overlay.png")
    print(f"what the model sees is drawn in {options.out / 'overlay.png'}")


if __name__ == "__main__":
    main(arguments())
