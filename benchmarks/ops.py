"""The cheaper arithmetic of `lumora.ops` beside the plain one: time and peak memory, from one run.

    python benchmarks/ops.py                       # every row, on this machine
    python benchmarks/ops.py loss argmax           # some rows
    python benchmarks/ops.py --rounds 9 --out benchmarks/results/ops-cpu.md

The two arms of a row take turns in one process, so that they see the same machine; each time is the fastest round.
Memory is the most that one call needs beyond what is there before it, measured in a fresh process (on a GPU: torch's
own peak). On a machine with a GPU everything runs there in bf16, eager and compiled.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from measuring import DEVICE, GPU, Say, command_with_rows, fastest, machine, peak, peak_elsewhere
from torch import Tensor, nn

from lumora import ops

ARMS = ("plain", "ours")
LARGE = (512, 512)


def upsampled(logits: Tensor) -> Tensor:
    return F.interpolate(logits, size=LARGE, mode="bilinear", align_corners=False)


def noise() -> Tensor:
    """Logits of two pictures, 150 classes, a quarter of the size; neighbours have nothing to do with each other."""
    return torch.randn(2, 150, 128, 128, device=DEVICE) * 3


def areas() -> Tensor:
    """The same as a model gives them: areas of one class with borders between."""
    return F.interpolate(torch.randn(2, 150, 12, 12, device=DEVICE) * 8, size=(128, 128), mode="bicubic")


def masks() -> Tensor:
    labels = torch.randint(0, 150, (2, *LARGE), device=DEVICE)
    labels[:, :30] = 255
    return labels


def plain_dice(logits: Tensor, target: Tensor) -> Tensor:
    counts = (target != 255)[:, None]
    own = F.one_hot(torch.where(target != 255, target, 0), logits.shape[1]).movedim(-1, 1) * counts
    predicted = logits.softmax(1) * counts
    losses = 1 - (2 * (predicted * own).sum((0, 2, 3)) + 1) / ((predicted + own).sum((0, 2, 3)) + 1)
    return losses[own.sum((0, 2, 3)) > 0].mean()


def loss(arm: str) -> Callable[[], None]:
    logits, target = noise().requires_grad_(), masks()

    def run() -> None:
        logits.grad = None
        if arm == "ours":
            value = ops.upsampled_cross_entropy(logits, target)
        else:
            value = F.cross_entropy(upsampled(logits), target, ignore_index=255)
        value.backward()

    return run


def loss_and_dice(arm: str) -> Callable[[], None]:
    logits, target = noise().requires_grad_(), masks()

    def run() -> None:
        logits.grad = None
        if arm == "ours":
            value = sum(ops.upsampled_cross_entropy_and_dice(logits, target))
        else:
            full = upsampled(logits)
            value = F.cross_entropy(full, target, ignore_index=255) + plain_dice(full, target)
        value.backward()

    return run


def argmax(arm: str, logits: Tensor) -> Callable[[], None]:
    if arm == "ours":
        return lambda: void(ops.upsampled_argmax(logits, LARGE))
    return lambda: void(upsampled(logits).argmax(1))


def confidence(arm: str) -> Callable[[], None]:
    logits = areas()
    if arm == "ours":
        return lambda: void(ops.upsampled_confidence(logits, LARGE))
    return lambda: void(upsampled(logits).softmax(1).max(1))


def void(_: object) -> None:
    """Forget a result, as a step of a loop does."""


def segformer_model() -> nn.Module:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    return SegformerForSemanticSegmentation(SegformerConfig(num_labels=150)).to(DEVICE)


def head(arm: str, training: bool) -> Callable[[], None]:
    model = segformer_model().train(training)
    with torch.no_grad():
        pixels = torch.randn(2, 3, *LARGE, device=DEVICE)
        maps = [m.detach() for m in model.segformer(pixels, output_hidden_states=True).hidden_states]
    if arm == "ours":
        ops.accelerate(model)

    def run() -> None:
        if training:
            model.decode_head([m.requires_grad_() for m in maps]).square().mean().backward()
        else:
            with torch.no_grad():
                model.decode_head(maps)

    return run


def adapted_step(model: nn.Module, inputs: dict[str, Tensor], **adapt: object) -> Callable[[], None]:
    from lumora import LoraConfig, get_peft_model

    model = get_peft_model(model, LoraConfig(lora_dropout=0.1, **adapt)).train()

    def run() -> None:
        model.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=GPU):
            value = model(**inputs).loss
        value.backward()

    return run


def segformer_step(arm: str) -> Callable[[], None]:
    model = segformer_model()
    if arm == "ours":
        ops.accelerate(model)
    inputs = {"pixel_values": torch.randn(2, 3, *LARGE, device=DEVICE), "labels": masks()}
    adapt = {"r": 32, "lora_alpha": 32, "target_modules": ["q_proj", "v_proj"], "bias": "lora_only"}
    return adapted_step(model, inputs, **adapt, modules_to_save=["decode_head"])


def vit_model(arm: str) -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    model = ViTForImageClassification(ViTConfig(num_labels=101)).to(DEVICE)
    if arm == "ours":
        ops.accelerate(model)
    return model


def vit_step(arm: str) -> Callable[[], None]:
    inputs = {
        "pixel_values": torch.randn(8, 3, 224, 224, device=DEVICE),
        "labels": torch.randint(0, 101, (8,), device=DEVICE),
    }
    adapt = {"r": 16, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"], "modules_to_save": ["classifier"]}
    return adapted_step(vit_model(arm), inputs, **adapt)


def vit_forward(arm: str) -> Callable[[], None]:
    model, pixels = vit_model(arm).eval(), torch.randn(8, 3, 224, 224, device=DEVICE)

    @torch.no_grad()
    def run() -> None:
        model(pixels)

    return run


ROWS: dict[str, tuple[str, Callable[[str], Callable[[], None]]]] = {
    "loss": ("cross entropy of 2 × 150 × 128² at 512², with gradient", loss),
    "dice": ("the same with Dice beside it", loss_and_dice),
    "argmax": ("arg-max of the same, areas of one class", lambda arm: argmax(arm, areas())),
    "argmax-noise": ("arg-max of the same, noise", lambda arm: argmax(arm, noise())),
    "confidence": ("arg-max with its probability", confidence),
    "head": ("SegFormer-B0's decode head at 512², batch 2, with gradient", lambda arm: head(arm, True)),
    "head-eval": ("the same in evaluation", lambda arm: head(arm, False)),
    "segformer": ("SegFormer-B0 512², batch 2, 150 classes, LoRA r=32: a training step", segformer_step),
    "vit": ("ViT-B/16 224², batch 8, LoRA r=16: a training step", vit_step),
    "vit-eval": ("the same model's forward pass in evaluation", vit_forward),
}


def memory_of(name: str, arm: str) -> float:
    """Of one call; on a GPU of the second, when the libraries have their workspaces."""
    return peak(ROWS[name][1](arm), calls=2 if GPU else 1)


def report(say: Say, names: list[str], rounds: int, with_memory: bool) -> None:
    say(f"# What the arithmetic of `lumora.ops` costs\n\n{machine('transformers')}; fastest of {rounds} rounds.\n")
    say("| what | plain, s | ours, s | of plain | plain, MiB | ours, MiB |")
    say("|---|---|---|---|---|---|")
    for name in names:
        title, build = ROWS[name]
        torch.manual_seed(0)
        times = fastest({arm: build(arm) for arm in ARMS}, rounds)
        memory = [f"{peak_elsewhere(__file__, name, arm):.0f}" if with_memory else "" for arm in ARMS]
        plain, ours = (times[arm] for arm in ARMS)
        say(f"| {title} | {plain:.4f} | {ours:.4f} | {ours / plain:.3f} | {memory[0]} | {memory[1]} |")


if __name__ == "__main__":
    command_with_rows(__doc__, ROWS, report, memory_of, rounds=5)
