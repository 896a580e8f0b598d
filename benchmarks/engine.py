"""What LoRA costs: a training step with Lumora, with PEFT, of full fine-tuning, and the floor; and swapping an adapter.

    python benchmarks/engine.py                    # every row, on this machine
    python benchmarks/engine.py vit poolformer     # some rows
    python benchmarks/engine.py --rounds 9 --out benchmarks/results/engine.md

The floor is the frozen base's forward pass and the gradient back to the first adapted layers, with no adapters at all.
All arms of a row take turns in one process, so that they see the same machine; each time is the fastest round. Memory
is the most that one step of an arm needs beyond its model, measured in a fresh process (on a GPU: torch's own peak).
On a machine with a GPU everything runs there in bf16, eager and compiled.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import torch
from measuring import DEVICE, GPU, Say, command_with_rows, fastest, machine, peak, peak_elsewhere
from torch import Tensor, nn

ARMS = ("lumora", "peft", "full", "floor")


@dataclass(frozen=True)
class Row:
    """One comparison: a model, its input, and what is adapted."""

    title: str
    build: Callable[[], nn.Module]
    batch: int
    adapt: dict[str, object]
    first: tuple[str, ...]
    """Paths of the first adapted layers: the floor's gradient goes back to their outputs."""
    target: str = ""


def vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(ViTConfig(num_labels=101))


def poolformer() -> nn.Module:
    import timm

    return timm.create_model("poolformer_m36", pretrained=False, num_classes=3)


_VIT = {"r": 16, "lora_alpha": 16, "modules_to_save": ["classifier"]}
_POOLFORMER = {"r": 8, "target_modules": r".*\.mlp\.fc\d", "modules_to_save": ["head.fc"]}
_FIRST = ("vit.layers.0.attention.q_proj", "vit.layers.0.attention.v_proj")

ROWS = {
    "vit": Row(
        "ViT-B/16 224², r=16 query/value, dropout 0.1",
        vit,
        8,
        {**_VIT, "target_modules": ["q_proj", "v_proj"], "lora_dropout": 0.1},
        _FIRST,
        "≤ 0.87 of peft, ≤ 1.05 of the floor",
    ),
    "vit-all": Row(
        "ViT-B/16 224², r=16 all-linear, dropout 0.1",
        vit,
        8,
        {**_VIT, "target_modules": "all-linear", "lora_dropout": 0.1},
        (*_FIRST, "vit.layers.0.attention.k_proj"),
    ),
    "poolformer": Row(
        "poolformer_m36 224², r=8 1×1 convolutions, no dropout",
        poolformer,
        4,
        _POOLFORMER,
        ("stages.0.blocks.0.mlp.fc1",),
        "≤ 0.90 of peft",
    ),
    "poolformer-dropout": Row(
        "poolformer_m36 224², r=8 1×1 convolutions, dropout 0.1",
        poolformer,
        4,
        {**_POOLFORMER, "lora_dropout": 0.1},
        ("stages.0.blocks.0.mlp.fc1",),
        "≤ 0.65 of peft",
    ),
}


def make_step(row: Row, arm: str, compiled: bool = False) -> Callable[[], None]:
    """A training step of one arm: forward, loss, backward, AdamW on what is trained."""
    torch.manual_seed(0)
    model = row.build().to(DEVICE).train()
    if arm == "floor":
        model.requires_grad_(False)
        for path in row.first:
            model.get_submodule(path).register_forward_hook(lambda _m, _x, y: y.requires_grad_(True))
    elif arm != "full":
        model = adapted(row, arm, model)
    pixels = torch.randn(row.batch, 3, 224, 224, device=DEVICE)
    labels = torch.randint(0, 3, (row.batch,), device=DEVICE)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4) if trained else None
    run = torch.compile(model) if compiled else model

    def step() -> None:
        if optimizer is not None:
            optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=GPU):
            output = run(pixels)
            logits: Tensor = output if isinstance(output, Tensor) else output.logits
            loss = nn.functional.cross_entropy(logits.float(), labels)
        loss.backward()
        if optimizer is not None:
            optimizer.step()

    return step


def adapted(row: Row, arm: str, model: nn.Module) -> nn.Module:
    """The row's model with adapters by Lumora or by PEFT."""
    if arm == "lumora":
        from lumora import LoraConfig, get_peft_model
    else:
        from peft import LoraConfig, get_peft_model
    return get_peft_model(model, LoraConfig(**row.adapt))


def memory_of(name: str, arm: str) -> float:
    """Of two steps, since the optimizer's state comes with the first."""
    return peak(make_step(ROWS[name], arm), calls=2)


def swap_times(rounds: int) -> dict[str, float]:
    """Seconds to put another adapter into a ViT-B in place of the one that is there."""
    import peft

    import lumora
    from lumora.peft.utils.hotswap import hotswap_adapter

    options = {"r": 16, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]}
    with tempfile.TemporaryDirectory() as folder:
        ours = lumora.get_peft_model(vit(), lumora.LoraConfig(**options))
        theirs = peft.get_peft_model(vit(), peft.LoraConfig(**options))
        ours.save_pretrained(folder)

        def swap_peft() -> None:
            theirs.delete_adapter("default")
            theirs.load_adapter(folder, "default")

        return fastest({"lumora": lambda: hotswap_adapter(ours, folder, "default"), "peft": swap_peft}, rounds)


def report(say: Say, names: list[str], rounds: int, with_memory: bool) -> None:
    say(f"# The engine's cost\n\n{machine('transformers', 'peft', 'timm')}; fastest of {rounds} rounds.\n")
    say("| training step | arm | seconds | of peft | of the floor | extra MiB |")
    say("|---|---|---|---|---|---|")
    for name in names:
        row = ROWS[name]
        for compiled in (False, True) if GPU else (False,):
            steps = {arm: make_step(row, arm, compiled) for arm in ARMS}
            times = fastest(steps, rounds)
            del steps
            for arm in ARMS:
                memory = f"{peak_elsewhere(__file__, name, arm):.0f}" if with_memory and not compiled else ""
                title = f"{row.title}, batch {row.batch}{', compiled' if compiled else ''}" if arm == ARMS[0] else ""
                ratios = f"{times[arm] / times['peft']:.3f} | {times[arm] / times['floor']:.3f}"
                say(f"| {title} | {arm} | {times[arm]:.3f} | {ratios} | {memory} |")
        if row.target and not GPU:
            say(f"| | *must be* | | {row.target} | | |")
    swaps = swap_times(rounds)
    say("\n| swapping an adapter of ViT-B | milliseconds | of peft |\n|---|---|---|")
    for arm, seconds in swaps.items():
        say(f"| {arm} | {1e3 * seconds:.1f} | {seconds / swaps['peft']:.3f} |")
    say("| *must be* | | ≤ 0.5 |")


if __name__ == "__main__":
    command_with_rows(__doc__, ROWS, report, memory_of, rounds=7)
