import dataclasses
import hashlib

import pytest
import torch
import torch.nn.functional as F
from tests.bundle.making import LABELS, about_of, adapted, base_of, pyramid, ready_base
from torch import nn

from lumora.bundle.proof import compare, pictures, prove, tolerance_of
from lumora.errors import BundleError, MetricError


def test_pictures__are_always_the_same():
    digest = hashlib.sha256(pictures((40, 50)).numpy().tobytes()).hexdigest()
    assert digest == hashlib.sha256(pictures((40, 50)).numpy().tobytes()).hexdigest()
    assert pictures((40, 50)).shape == (2, 3, 40, 50)
    assert pictures((40, 50)).dtype == torch.uint8
    assert not pictures((40, 50))[0].equal(pictures((40, 50))[1])


def test_pictures__do_not_depend_on_anybodys_seed():
    torch.manual_seed(1)
    one = pictures((8, 8))
    torch.manual_seed(2)
    assert pictures((8, 8)).equal(one)


def test_prove__gives_the_models_logits():
    base = ready_base()
    about = about_of(base, 64)
    expected = base.module.eval()(about.preprocessing.normalise(pictures((64, 64))))
    assert prove(base.module, about)["logits"].equal(expected.detach())


def test_prove__averages_the_logits_of_masks():
    base, side = base_of("embedded-light", None)
    about = about_of(base, side)
    with torch.no_grad():
        whole = base.module.eval()(about.preprocessing.normalise(pictures((side, side))))
    expected = whole.reshape(2, len(LABELS), 8, 2, 8, 2).mean((3, 5))
    assert whole.shape == (2, len(LABELS), 16, 16)
    torch.testing.assert_close(prove(base.module, about)["logits"], expected)


def test_prove__leaves_no_trace():
    base = ready_base()
    base.module.train()
    base.module.stem.eval()
    were = {n: t.clone() for n, t in base.module.state_dict().items()}
    prove(base.module, about_of(base, 64))
    assert (base.module.training, base.module.stem.training) == (True, False)
    assert all(were[n].equal(t) for n, t in base.module.state_dict().items())


def test_prove__counts_adapters():
    base = ready_base()
    about, before = about_of(base, 64), prove(base.module, about_of(base, 64))
    with pytest.raises(BundleError, match="6 of 6 logits"):
        compare(before, prove(adapted(base), about), 1e-3)


def test_prove__ignores_autocast():
    base = ready_base()
    about = about_of(base, 64)
    with torch.autocast("cpu", torch.bfloat16):
        inside = prove(base.module, about)
    assert inside["logits"].equal(prove(base.module, about)["logits"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_prove__weights_of_16_bits_are_compared_more_loosely(dtype):
    base = ready_base()
    about, whole = about_of(base, 64), prove(base.module, about_of(base, 64))
    assert tolerance_of(base.module) == 1e-3
    base.module.to(dtype)
    compare(whole, prove(base.module, about), tolerance_of(base.module))


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        (pyramid(4), {}, r"classification with 3 labels must give logits \(pictures, 3\), .* gives \(2, 4\)"),
        (pyramid(3), {"task": "segmentation"}, r"must give logits \(pictures, 3, height, width\)"),
        (nn.Sequential(pyramid(3), nn.Threshold(1e9, float("nan"))), {}, "no numbers"),
        (nn.Sequential(nn.Flatten(), nn.Linear(5, 3)), {}, r"cannot be run on pictures of 64 × 64 .*mat1 and mat2"),
    ],
)
def test_prove__what_cannot_be_right_is_told(model, changes, message):
    about = dataclasses.replace(about_of(ready_base(), 64), **changes)
    with pytest.raises(BundleError, match=message):
        prove(model, about)


def test_prove__outputs_without_logits_are_told():
    class Words(nn.Module):
        def forward(self, x):
            return "cat"

    with pytest.raises(MetricError, match="no logits were found"):
        prove(Words(), about_of(ready_base(), 64))


def test_compare__rounding_passes_and_more_does_not():
    expected = {"logits": torch.tensor([[-4.0, 2.0]])}
    compare(expected, {"logits": torch.tensor([[-4.003, 2.003]])}, 1e-3)
    for value in (-4.1, float("nan"), float("inf")):
        with pytest.raises(BundleError, match=r"1 of 2 logits by more than 0\.004, the most by (0\.1|inf)"):
            compare(expected, {"logits": torch.tensor([[value, 2.0]])}, 1e-3)


def test_compare__shapes_must_be_the_same():
    with pytest.raises(BundleError, match=r"logits \(1, 3\) instead of \(1, 2\)"):
        compare({"logits": torch.zeros(1, 2)}, {"logits": torch.zeros(1, 3)}, 1e-3)
    with pytest.raises(BundleError, match="has no tensor 'logits'"):
        compare({}, {"logits": F.relu(torch.zeros(1, 3))}, 1e-3)
