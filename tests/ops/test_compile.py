"""Everything traces into one graph. The backends that also generate code are slow to build, so they run on demand."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tests.ops import tiny

from lumora.ops import (
    accelerate,
    upsampled_argmax,
    upsampled_confidence,
    upsampled_cross_entropy,
    upsampled_cross_entropy_and_dice,
    upsampled_probabilities,
)

BACKENDS = [
    "eager",
    pytest.param("aot_eager", marks=pytest.mark.slow),
    pytest.param("inductor", marks=pytest.mark.slow),
]
LOSSES = {
    "cross entropy": lambda x, t: upsampled_cross_entropy(x, t, label_smoothing=0.1),
    "both": lambda x, t: sum(upsampled_cross_entropy_and_dice(x, t)),
}
PREDICTIONS = {
    "argmax": lambda x: upsampled_argmax(x, (20, 23)),
    "confidence": lambda x: upsampled_confidence(x, (20, 23))[1],
    "probabilities": lambda x: upsampled_probabilities(x, (20, 23)),
}


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_losses__compile_into_one_graph(loss, backend):
    logits = torch.randn(2, 5, 6, 7, dtype=torch.float64, requires_grad=True)
    target = tiny.masks(5, 20, 23)
    compiled = torch.compile(loss, fullgraph=True, backend=backend)(logits, target)
    expected = loss(logits, target)
    torch.testing.assert_close(compiled, expected, rtol=1e-10, atol=1e-10)
    gradients = [torch.autograd.grad(x, logits)[0] for x in (compiled, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("predict", PREDICTIONS.values(), ids=PREDICTIONS)
def test_predictions__compile_into_one_graph(predict, backend):
    logits = torch.randn(2, 5, 6, 7, dtype=torch.float64)
    compiled = torch.compile(predict, fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(logits), predict(logits), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("build", [pytest.param(tiny.segformer, marks=pytest.mark.slow), tiny.vit])
def test_accelerated_model__compiles_into_one_graph(build, backend):
    model = build().eval()
    size = 64 if build is tiny.segformer else 16
    labels = tiny.masks(5, size, size) if build is tiny.segformer else torch.tensor([0, 1])
    inputs = {"pixel_values": tiny.pictures(size, size), "labels": labels}
    expected = tiny.results(model, **inputs)
    accelerate(model)
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    outputs = compiled(**inputs)
    torch.testing.assert_close(outputs.logits, expected["logits"], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(outputs.loss, expected["loss"], rtol=1e-8, atol=1e-8)


def test_accelerated_model__compiles_again_in_another_thread():
    def logits():
        model = tiny.vit().eval()
        accelerate(model)
        return torch.compile(model, fullgraph=True, backend="eager")(tiny.pictures(16, 16)).logits

    for expected in (logits(), logits()):
        with ThreadPoolExecutor(1) as fresh_thread:
            torch.testing.assert_close(fresh_thread.submit(logits).result(), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_accelerated_model__with_adapters_in_its_head_compiles(backend):
    model = tiny.adapted(tiny.segformer(), target_modules=["linear_fuse", "proj", "q_proj"]).eval()
    expected = model(tiny.pictures()).logits
    accelerate(model)
    compiled = torch.compile(model, backend=backend)
    torch.testing.assert_close(compiled(tiny.pictures()).logits, expected, rtol=1e-8, atol=1e-8)
    model.set_strength("default", 0.5)
    weaker = compiled(tiny.pictures()).logits
    torch.testing.assert_close(weaker, model(tiny.pictures()).logits, rtol=1e-8, atol=1e-8)
    assert not torch.allclose(weaker, expected)
