"""The metric of the public SegFormer LoRA guide shifts labels that the image processor has already shifted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.integrations.evaluated import Segmenter, trainer
from tests.tasks.published import mean_iou
from torch import nn
from transformers import SegformerImageProcessor

from lumora.data import Labels
from lumora.errors import SelfTestError
from lumora.tasks import Segmentation

LABELS = Labels(tuple(f"thing {i}" for i in range(7)))
TASK = Segmentation(LABELS)


@pytest.fixture(scope="module")
def processor() -> SegformerImageProcessor:
    return SegformerImageProcessor(do_reduce_labels=True, size={"height": 32, "width": 32})


@pytest.fixture(scope="module")
def data(processor: SegformerImageProcessor) -> list[dict[str, Any]]:
    """Pictures through the guide's processor; in their files 0 means "nothing" and thing 0 is 1."""
    rows = []
    for seed in range(4):
        raw = np.random.default_rng(seed).integers(0, 8, (4, 4)).astype(np.uint8)
        picture = Image.fromarray(np.zeros((32, 32, 3), dtype=np.uint8))
        inputs = processor([picture], [Image.fromarray(raw.repeat(8, 0).repeat(8, 1))], return_tensors="pt")
        rows.append({"pixel_values": inputs["pixel_values"][0], "labels": inputs["labels"][0]})
    assert {int(i) for row in rows for i in row["labels"].unique()} == {0, 1, 2, 3, 4, 5, 6, 255}
    return rows


def guides(**arguments: Any) -> Any:
    """What the guide gives to `Trainer`: upsample all logits, arg-max, and ask for the mean IoU."""

    def compute_metrics(evaluated: Any) -> dict[str, Any]:
        logits, labels = evaluated
        large = nn.functional.interpolate(torch.from_numpy(logits), size=labels.shape[-2:], mode="bilinear")
        found = mean_iou(list(large.argmax(1).numpy()), list(labels), len(LABELS), **arguments)
        del found["per_category_iou"], found["per_category_accuracy"]
        return found

    return compute_metrics


def test_self_test__finds_the_guides_own_call(tmp_path, data, processor):
    # ignore_index=0, reduce_labels=image_processor.do_reduce_labels: word for word.
    wrong = guides(ignore_index=0, reduce_labels=processor.do_reduce_labels)
    with pytest.raises(SelfTestError) as refused:
        trainer(Segmenter(), data, wrong, tmp_path).self_test(TASK)
    message = str(refused.value)
    assert "mean_iou 0 instead of 1" in message
    assert "ids that are one too low" in message
    assert "Pass reduce_labels=False to the metric" in message


def test_self_test__finds_it_with_the_right_ignore_index_too(tmp_path, data):
    with pytest.raises(SelfTestError, match=r"mean_iou 0 instead of 1.*ids that are one too low has 1 on average"):
        trainer(Segmenter(), data, guides(ignore_index=255, reduce_labels=True), tmp_path).self_test(TASK)


def test_self_test__finds_a_class_that_is_ignored_by_mistake(tmp_path, data):
    whole = [{**row, "labels": torch.where(row["labels"] == 255, 6, row["labels"])} for row in data]
    with pytest.raises(SelfTestError, match=r"sees 'thing 0' everywhere has mean_iou .*ignore_index"):
        trainer(Segmenter(), whole, guides(ignore_index=0), tmp_path).self_test(TASK)


@pytest.mark.parametrize("metrics", [guides(ignore_index=255), TASK.new_metrics()], ids=["guide, mended", "ours"])
def test_self_test__passes_the_right_call(tmp_path, data, metrics):
    trainer(Segmenter(), data, metrics, tmp_path).self_test(TASK)


def test_evaluate__streams_what_the_mended_guide_computes_from_all_logits(tmp_path, data):
    mended = trainer(Segmenter(), data, guides(ignore_index=255), tmp_path).evaluate()
    streamed = trainer(Segmenter(), data, TASK.new_metrics(), tmp_path).evaluate()
    for name in ("eval_mean_iou", "eval_mean_accuracy", "eval_overall_accuracy"):
        assert streamed[name] == pytest.approx(mended[name], abs=1e-12)
    assert "eval_iou_thing 3" in streamed
