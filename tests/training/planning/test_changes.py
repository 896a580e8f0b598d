"""What is counted without weights is what the real model, the real peft and the files on the disk have."""

from __future__ import annotations

import dataclasses

import peft
import pytest
import torch
from safetensors import safe_open
from tests.tiny_models import save_segformer, save_vit

from lumora.bundle import write
from lumora.bundle.names import ADAPTER, WEIGHTS
from lumora.models import load_base
from lumora.tasks.metrics.base import Scores
from lumora.training import checkpoints, plan
from lumora.training.checkpoints import Checkpoint
from lumora.training.events import Listener
from lumora.training.loop import Loop
from lumora.training.setup import prepare, source_for
from lumora.training.stopping import StopRequest

SMALL = {"train.batch_size": 4, "train.epochs": 1, "run.workers": 0, "run.live_samples": 0}


def bytes_in(file):
    """Bytes of the tensors in a file."""
    with safe_open(file, "pt") as opened:
        return sum(tensor.nbytes for tensor in map(opened.get_tensor, opened.keys()))


def whole_training(recipe, folder):
    """The model after an epoch, and the bytes of the last checkpoint's tensors."""
    prepared = prepare(recipe, source_for(recipe.data), torch.device("cpu"))
    few = dataclasses.replace(prepared.course, epochs=1)

    def save(saved):
        checkpoints.save(folder / "checkpoints", Checkpoint(*saved), 1)

    Loop(prepared.work, few, save, Listener(), StopRequest()).run()
    return prepared, bytes_in(folder / "checkpoints" / "step-00000001" / "tensors.safetensors")


@pytest.mark.parametrize("method", ["lora", "full", "head"])
@pytest.mark.parametrize(
    "base",
    ["vit", pytest.param("segformer", marks=pytest.mark.slow), pytest.param("embedded", marks=pytest.mark.slow)],
)
def test_plan__counts_what_is_trained_and_written(scenes, tmp_path, base, method):
    task = "segmentation" if base == "segformer" else "classification"
    settings = {**SMALL, "train.method": method, "pictures.size": 32, "train.ema": 0.9}
    if base == "vit":
        settings["base.name"] = str(save_vit(tmp_path / "base", 0))
    elif base == "segformer":
        settings["base.name"] = str(save_segformer(tmp_path / "base", 0, 64))
    planned = plan(scenes / task, settings=settings, probe=False)
    prepared, in_checkpoint = whole_training(planned.recipe, tmp_path)
    parameters = list(prepared.model.parameters())
    changes = planned.changes
    assert changes.trained == sum(p.numel() for p in parameters if p.requires_grad)
    assert changes.parameters == sum(p.numel() for p in parameters)
    assert changes.checkpoint_bytes == in_checkpoint
    write(tmp_path / "bundle", prepared.model, prepared.about(Scores({})))
    assert changes.bundle_bytes == bytes_in(tmp_path / "bundle" / (ADAPTER if method == "lora" else WEIGHTS))
    assert changes.bundle_bytes == sum(group.bytes for group in changes.groups)


def test_plan__counts_what_peft_counts(scenes, tmp_path):
    name = str(save_vit(tmp_path / "base", 0))
    settings = {**SMALL, "lora.r": 3, "lora.targets": "q_proj,v_proj", "lora.norms": False}
    changes = plan(scenes / "classification", name, settings=settings, probe=False).changes
    labels = len(plan(scenes / "classification", name, settings=SMALL, probe=False).data.labels)
    base = load_base(name, task="classification", num_labels=labels)
    config = peft.LoraConfig(r=3, target_modules=["q_proj", "v_proj"], modules_to_save=list(base.heads))
    counted = peft.get_peft_model(base.module, config).get_nb_trainable_parameters()
    assert (changes.trained, changes.parameters) == counted


def test_plan__groups_targets_with_their_ranks(scenes, tmp_path):
    name = str(save_vit(tmp_path / "base", 0))
    settings = {**SMALL, "lora.r": 3, "lora.targets": "q_proj,v_proj", "lora.rank_pattern": {"v_proj": 2}}
    groups = plan(scenes / "classification", name, settings=settings, probe=False).changes.groups
    adapted = {group.path.rpartition(".")[2]: (group.rank, group.count) for group in groups if group.rank}
    assert adapted == {"q_proj": (3, 2), "v_proj": (2, 2)}
    assert {group.kind for group in groups if group.rank is None} == {"saved whole"}


def test_plan__of_a_start_that_needs_weights(scenes, tmp_path):
    name = str(save_vit(tmp_path / "base", 0))
    usual, pissa = (
        plan(scenes / "classification", name, settings={**SMALL, "lora.start": start}, probe=False)
        for start in (True, "pissa")
    )
    assert pissa.changes == usual.changes
    assert pissa.recipe.lora.start == "pissa"
