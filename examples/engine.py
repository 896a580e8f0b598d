"""The engine from end to end: adapt, train, prove, save, and load again in another process.

    python examples/engine.py

No network. The models are those of `custom_mlp.py` and `custom_timm.py`. Ends with 1 if the adapters do not give the
same outputs, to the last bit, after a fresh process has read them; `--tamper` changes one bit of a file to show that.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import custom_mlp
import custom_timm
import torch
import torch.nn.functional as F
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lumora import LoraConfig, PeftModel, get_peft_model

EPOCHS = 6
STEPS = 5
BIN = ".venv/bin/"
NEXT = (
    (f"{BIN}python examples/custom_mlp.py", "the MLP, step by step"),
    (f"{BIN}lumora inspect timm/poolformer_m36", "what a model has"),
    ("make docs", "the documentation"),
)


@dataclass
class Model:
    """One of the models: how its base is made, and inputs to compare outputs on."""

    title: str
    folder: str
    base: Callable[[], nn.Module]
    sample: Tensor


MODELS = (
    Model("MLP", "mlp", custom_mlp.new_base, custom_mlp.points(256, seed=2)[0]),
    Model(
        "poolformer_m36",
        "poolformer",
        custom_timm.new_base,
        torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)),
    ),
)


def scenes(count: int) -> tuple[Tensor, Tensor]:
    """Pictures of 64 x 64 with bright stripes: across, upright, or slanted."""
    draw = torch.Generator().manual_seed(3)
    labels = torch.arange(count) % 3
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    ways = torch.stack([rows, columns, (rows + columns) / 2**0.5])
    pictures = torch.sin(ways[labels] / 3 + 6 * torch.rand(count, 1, 1, generator=draw))
    return pictures[:, None] + 0.5 * torch.randn(count, 3, 64, 64, generator=draw), labels


def trainable(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def train_mlp(model: PeftModel, progress: Progress) -> list[str]:
    """Train on generated points; return the row of the results table."""
    x, y = custom_mlp.points(1000, seed=1)
    x_test, y_test = custom_mlp.points(1000, seed=4)
    before = custom_mlp.score(model, x_test, y_test)
    optimizer = torch.optim.Adam(trainable(model), lr=0.002)
    task = progress.add_task("MLP", total=EPOCHS, unit="epochs", loss=before[0])
    for _ in range(EPOCHS):
        loss = custom_mlp.train_one_epoch(model, optimizer, x, y)
        progress.update(task, advance=1, loss=loss)
    after = custom_mlp.score(model, x_test, y_test)
    return ["MLP, 1,000 unseen points", *_change(before, after)]


def train_poolformer(model: PeftModel, progress: Progress) -> list[str]:
    """Train on generated pictures for a moment; return the row of the results table."""
    pictures, labels = scenes(9)
    optimizer = torch.optim.AdamW(trainable(model), lr=1e-3)

    def score() -> tuple[float, float]:
        with torch.no_grad():
            output = model.eval()(pictures)
        return F.cross_entropy(output, labels).item(), (output.argmax(dim=1) == labels).float().mean().item()

    before = score()
    task = progress.add_task("poolformer_m36", total=STEPS, unit="steps", loss=before[0])
    model.train()
    for _ in range(STEPS):
        loss = F.cross_entropy(model(pictures), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        progress.update(task, advance=1, loss=loss.item())
    return ["poolformer_m36, 9 pictures seen", *_change(before, score())]


def _change(before: tuple[float, float], after: tuple[float, float]) -> list[str]:
    return [f"{before[0]:.3f}", f"{after[0]:.3f}", f"{before[1]:.0%}", f"[bold]{after[1]:.0%}[/]"]


def _table(title: str) -> Table:
    return Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title, title_justify="left", title_style="bold")


def what_is_adapted(models: list[PeftModel]) -> Table:
    table = _table("What is adapted and trained")
    for column in ("model", "targets"):
        table.add_column(column, no_wrap=True)
    for column in ("layers", "rank", "trained", "of all", "share"):
        table.add_column(column, justify="right", no_wrap=True)
    for model, about in zip(models, MODELS, strict=True):
        config = model.peft_config["default"]
        targets = config.target_modules
        saved = ", ".join(config.modules_to_save or ())
        wanted = targets if isinstance(targets, str) else ", ".join(sorted(targets or ()))
        trained, total = model.get_nb_trainable_parameters()
        table.add_row(
            about.title,
            f"{wanted}\n{saved} (whole)",
            str(len(model.targeted_module_names)),
            str(config.r),
            f"{trained:,}",
            f"{total:,}",
            f"{trained / total:.2%}",
        )
    return table


def prove_live(models: list[PeftModel], console: Console) -> bool:
    """Run one sample through each model, forward and backward, and merge every layer once."""
    console.print("\n[bold]Does every adapter take part?[/] A forward and a backward pass, and a merge")
    reports = [model.verify(about.sample[:1]) for model, about in zip(models, MODELS, strict=True)]
    for report, about in zip(reports, MODELS, strict=True):
        console.print(f"  {about.title}: {report}")
    return all(report.ok for report in reports)


def train(models: list[PeftModel], console: Console) -> Table:
    console.print("\n[bold]Training[/] on generated data; the bases have random weights and stay frozen")
    shown = (
        TextColumn("  {task.description:<14}"),
        BarColumn(20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]:<6}  loss {task.fields[loss]:.3f} "),
        TimeElapsedColumn(),
    )
    with Progress(*shown, console=console) as progress:
        rows = [train_mlp(models[0], progress), train_poolformer(models[1], progress)]
    table = _table("The untrained base, and trained")
    table.add_column("measured on", no_wrap=True)
    for column in ("loss", "trained", "accuracy", "trained"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def save(models: list[PeftModel], folder: Path, console: Console) -> None:
    """Write the adapters, and what the models give for their samples."""
    console.print("\n[bold]Saved[/]")
    for model, about in zip(models, MODELS, strict=True):
        model.eval().save_pretrained(folder / about.folder)
        with torch.no_grad():
            save_file({"output": model(about.sample)}, folder / f"{about.folder}-here.safetensors")
        size = sum(file.stat().st_size for file in (folder / about.folder).iterdir())
        base = sum(p.numel() * p.element_size() for p in model.parameters() if not p.requires_grad)
        console.print(f"  {about.title}: {size / 1e6:.1f} MB, beside a base of {base / 1e6:.0f} MB")


def reload(folder: Path) -> None:
    """What the fresh process does: build the bases anew, put the saved adapters on, write what they give."""
    for about in MODELS:
        model = PeftModel.from_pretrained(about.base(), folder / about.folder).eval()
        with torch.no_grad():
            save_file({"output": model(about.sample)}, folder / f"{about.folder}-there.safetensors")


def same(folder: Path, console: Console) -> bool:
    """Compare the outputs of both processes, bit for bit."""
    results = []
    for about in MODELS:
        here, there = (
            load_file(folder / f"{about.folder}-{where}.safetensors")["output"] for where in ("here", "there")
        )
        equal = torch.equal(here, there)
        verdict = "[green]the same, bit for bit[/]" if equal else "[red]DIFFERENT[/]"
        console.print(f"  {about.title}: {here.numel():,} outputs, {verdict}")
        results.append(equal)
    return all(results)


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-2] ^= 0x40
    file.write_bytes(content)


def main(tamper: bool = False) -> int:
    console, start = Console(highlight=False), time.perf_counter()
    console.rule("[bold]Lumora: LoRA in any torch model", align="left")
    config = LoraConfig(target_modules=["seq.0", "seq.2"], modules_to_save=["seq.4"])
    models = [get_peft_model(custom_mlp.new_base(), config), custom_timm.adapt(custom_timm.new_base())]
    console.print()
    console.print(what_is_adapted(models))
    if not prove_live(models, console):
        return 1
    results = train(models, console)
    console.print()
    console.print(results)
    with tempfile.TemporaryDirectory(prefix="lumora-engine-") as name:
        folder = Path(name)
        save(models, folder, console)
        if tamper:
            flip_a_bit(folder / MODELS[0].folder / "adapter_model.safetensors")
            console.print("  [yellow]one bit of the first adapter was changed on purpose[/]")
        console.print("\n[bold]Loaded in a fresh process and compared[/]")
        subprocess.run([sys.executable, __file__, "--reload", name], check=True)
        if not same(folder, console):
            console.print("\n[bold red]What was loaded is not what was saved.[/]")
            return 1
    console.print(f"\nDone in {time.perf_counter() - start:.0f} s. What to type next:\n")
    for command, purpose in NEXT:
        console.print(f"  [bold]{command:<46}[/] {purpose}")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tamper", action="store_true", help="change one bit of a saved adapter before it is read")
    parser.add_argument("--reload", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    # In both processes alike: the order of additions, and with it the last bit, may depend on the number of threads.
    torch.set_num_threads(1)
    if options.reload:
        reload(options.reload)
    else:
        sys.exit(main(options.tamper))
