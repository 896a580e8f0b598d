"""Adapted models under `torch.compile`: one whole graph, the same numbers, and no new graph when adapters change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.lora.models import by_hand, zoo
from torch import Tensor, nn
from torch._dynamo.backends.registry import lookup_backend

from lumora import LoraConfig, PeftModel, get_peft_model


@pytest.fixture(autouse=True)
def _forget_graphs() -> None:
    torch.compiler.reset()


class Counting:
    """A backend that counts the graphs that it is given."""

    def __init__(self, name: str = "aot_eager") -> None:
        self.count = 0
        self._compile = lookup_backend(name)

    def __call__(self, graph: Any, inputs: Any) -> Any:
        self.count += 1
        return self._compile(graph, inputs)


class Embedded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 8)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.words(x))


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 4))


def _convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3, groups=2, padding="same"),
        nn.ConvTranspose2d(8, 4, 2, stride=2),
    )


# name -> model, targets, sample
MODELS: dict[str, tuple[Callable[[], nn.Module], Any, Callable[[], Tensor]]] = {
    "mlp": (_mlp, ["0", "2"], lambda: torch.randn(5, 6)),
    "convolutions": (_convolutions, ["0", "2", "4", "5"], lambda: torch.randn(2, 3, 6, 6)),
    "embedding": (Embedded, ["words", "out"], lambda: torch.randint(0, 9, (4, 5))),
    "attention": (Attending, ["attention"], lambda: torch.randn(2, 5, 8)),
    "timm_vit": (zoo.BY_NAME["timm_vit"].build, "all-linear", lambda: torch.randn(2, 3, 32, 32)),
    "vit": (zoo.BY_NAME["vit"].build, "all-linear", lambda: torch.randn(2, 3, 32, 32)),
    "timm_swin": (zoo.BY_NAME["timm_swin"].build, None, lambda: torch.randn(2, 3, 32, 32)),
    "torchvision_swin": (zoo.BY_NAME["torchvision_swin"].build, None, lambda: torch.randn(2, 3, 32, 32)),
    "torchvision_vit": (zoo.BY_NAME["torchvision_vit"].build, "all-linear", lambda: torch.randn(2, 3, 32, 32)),
}
SMALL = ("mlp", "convolutions", "embedding", "attention")
LARGE = [name for name in MODELS if name not in SMALL]
slow = pytest.mark.slow


def _adapted(name: str, *, adapters: int = 1, **options: Any) -> tuple[PeftModel, Tensor]:
    build, targets, sample = MODELS[name]
    torch.manual_seed(0)
    config = LoraConfig(**{"r": 2, "lora_alpha": 3, "target_modules": targets, **options})
    model = get_peft_model(build(), config)
    for i in range(1, adapters):
        model.add_adapter(f"other{i}", config)
    by_hand.draw(model)
    return model.eval(), sample()


def _compiled(model: nn.Module, name: str = "aot_eager") -> tuple[Any, Counting]:
    backend = Counting(name)
    return torch.compile(model, fullgraph=True, backend=backend), backend


def _gradients(output: Any, model: PeftModel) -> list[Tensor]:
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(by_hand.scalar(output), parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(pytest.param(name, {}, id=name) for name in SMALL),
        *(pytest.param(name, {"use_dora": True}, id=f"{name}_dora") for name in ("mlp",)),
        *(
            pytest.param(name, {"use_dora": True}, id=f"{name}_dora", marks=slow)
            for name in ("convolutions", "attention", *LARGE)
        ),
        *(pytest.param(name, {}, id=name, marks=slow) for name in LARGE),
    ],
)
def test_compiled__gives_the_same_outputs_and_gradients(name: str, options: dict[str, Any]) -> None:
    model, x = _adapted(name, **options)
    compiled, backend = _compiled(model)
    for mode in (True, False):
        model.train(mode)
        expected, output = model(x), compiled(x)
        by_hand.assert_close(output, expected, 1e-5)
        for ours, theirs in zip(_gradients(output, model), _gradients(expected, model), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * max(1.0, theirs.abs().max().item()))
    assert backend.count == 2


@pytest.mark.parametrize("name", [*SMALL, *(pytest.param(n, marks=slow) for n in LARGE)])
def test_strength__changes_without_a_new_graph(name: str) -> None:
    model, x = _adapted(name)
    compiled, backend = _compiled(model, "eager")
    with torch.no_grad():
        before = compiled(x)
        for strength in (0.5, 2.0, 0.0):
            model.base_model.set_strength("default", strength)
            by_hand.assert_close(compiled(x), model(x), 1e-5)
        for layer in by_hand.layers(model):
            layer.set_scale("default", 1.0)
        by_hand.assert_close(compiled(x), before, 1e-6)
    assert backend.count == 1


@pytest.mark.parametrize("name", SMALL)
def test_active_adapter__changes_without_a_new_graph(name: str) -> None:
    model, x = _adapted(name, adapters=3)
    model.set_adapter("default", inference_mode=True)
    compiled, backend = _compiled(model, "eager")
    seen = []
    with torch.no_grad():
        for adapter in ("default", "other1", "other2", "default"):
            model.set_adapter(adapter, inference_mode=True)
            seen.append(compiled(x))
            by_hand.assert_close(seen[-1], model(x), 1e-5)
        model.base_model.set_adapter(["other1", "other2"], inference_mode=True)
        by_hand.assert_close(compiled(x), model(x), 1e-5)
    assert not torch.allclose(seen[0], seen[1])
    by_hand.assert_same(seen[0], seen[3])
    assert backend.count == 1


@pytest.mark.parametrize("name", [*SMALL, pytest.param("timm_vit", marks=slow)])
def test_disabling__needs_no_new_graph(name: str) -> None:
    model, x = _adapted(name)
    base = MODELS[name][0]()
    base.load_state_dict(model.unload().state_dict())
    model, x = _adapted(name)
    compiled, backend = _compiled(model, "eager")
    with torch.no_grad():
        active = compiled(x)
        with model.disable_adapter():
            by_hand.assert_close(compiled(x), base.eval()(x), 1e-6)
        by_hand.assert_same(compiled(x), active)
    assert backend.count == 1


def test_hot_swap__needs_no_new_graph(tmp_path: Any) -> None:
    from lumora.lora.hotswap import hotswap_adapter

    other, x = _adapted("mlp")
    by_hand.draw(other)
    other.save_pretrained(tmp_path)
    model, x = _adapted("mlp")
    compiled, backend = _compiled(model, "eager")
    with torch.no_grad():
        compiled(x)
        hotswap_adapter(model, tmp_path, "default")
        by_hand.assert_close(compiled(x), other(x), 1e-5)
    assert backend.count == 1


@pytest.mark.parametrize("name", ["mlp", "convolutions", pytest.param("timm_swin", marks=slow)])
def test_training_step__learns_the_same(name: str) -> None:
    model, x = _adapted(name)
    twin, _ = _adapted(name)
    backend = Counting()
    for each, step in ((model, torch.compile(model.train(), fullgraph=True, backend=backend)), (twin.train(), twin)):
        optimizer = torch.optim.SGD([p for p in each.parameters() if p.requires_grad], lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            by_hand.scalar(step(x)).backward()
            optimizer.step()
    assert backend.count == 1
    for (key, ours), theirs in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5, msg=key)


def test_dropout__drops_in_a_compiled_training_step() -> None:
    model, x = _adapted("mlp", lora_dropout=0.5)
    compiled, _ = _compiled(model.train())
    with torch.no_grad():
        runs = torch.stack([compiled(x) for _ in range(200)])
        mean, plain = runs.mean(0), model.eval()(x)
    assert (runs[0] - runs[1]).abs().max() > 1e-3
    torch.testing.assert_close(mean, plain, rtol=0.3, atol=0.3)


def test_saved_head__is_compiled_with_the_rest() -> None:
    model, x = _adapted("mlp", target_modules=["0"], modules_to_save=["2"])
    compiled, backend = _compiled(model)
    by_hand.assert_close(compiled(x), model(x), 1e-5)
    assert backend.count == 1


def test_merged__compiles_to_the_plain_model() -> None:
    model, x = _adapted("mlp")
    expected = model(x)
    model.merge_adapter()
    compiled, _ = _compiled(model)
    by_hand.assert_close(compiled(x), expected, 1e-5)


def test_compile_in_place__keeps_saving_and_the_names(tmp_path: Any) -> None:
    model, x = _adapted("mlp")
    model.save_pretrained(tmp_path / "before")
    model.compile(fullgraph=True, backend="eager")
    with torch.no_grad():
        expected = model(x)
    model.save_pretrained(tmp_path / "after")
    torch.compile(model, backend="eager").save_pretrained(tmp_path / "wrapped")
    for name in ("before", "after", "wrapped"):
        torch.manual_seed(0)
        loaded = PeftModel.from_pretrained(_mlp(), tmp_path / name)
        by_hand.assert_close(loaded(x), expected, 1e-6)


@pytest.mark.parametrize("name", ["mlp", "convolutions", pytest.param("vit", marks=slow)])
def test_export__gives_a_program_with_the_same_outputs(name: str) -> None:
    model, x = _adapted(name)
    with torch.no_grad():
        exported = torch.export.export(model, (x,))
        by_hand.assert_close(exported.module()(x), model(x), 1e-5)


@slow
@pytest.mark.parametrize("name", ["mlp", "convolutions", "vit"])
def test_inductor__gives_the_same_outputs_and_gradients(name: str) -> None:
    model, x = _adapted(name)
    compiled, _ = _compiled(model.train(), "inductor")
    expected, output = model(x), compiled(x)
    by_hand.assert_close(output, expected, 1e-4)
    for ours, theirs in zip(_gradients(output, model), _gradients(expected, model), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    model.base_model.set_strength("default", 0.5)
    by_hand.assert_close(compiled(x), model(x), 1e-4)
