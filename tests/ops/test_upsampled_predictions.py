import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lumora.errors import InputError
from lumora.ops import (
    upsampled_argmax,
    upsampled_confidence,
    upsampled_probabilities,
    upsampled_probability_tiles,
)

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))
LARGE = st.tuples(st.integers(1, 40), st.integers(1, 40))


def full_size(logits, size):
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def noise(small, classes, seed=0):
    """Neighbours that have nothing to do with each other."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, classes, *small, generator=generator, dtype=torch.float64)


def areas(small, classes, seed=0):
    """Large areas of one class with borders between them, as a model predicts them."""
    smooth = full_size(noise((3, 3), classes, seed), small)
    return smooth * 5 + noise(small, classes, seed + 1) * 0.1


@settings(max_examples=60, deadline=None)
@given(
    small=SIZES, large=LARGE, classes=st.integers(1, 6), make=st.sampled_from([noise, areas]), seed=st.integers(0, 99)
)
def test_predictions__equal_their_plain_twins_at_any_sizes(small, large, classes, make, seed):
    logits = make(small, classes, seed)
    full = full_size(logits, large)
    assert torch.equal(upsampled_argmax(logits, large), full.argmax(1))
    ids, probability = upsampled_confidence(logits, large)
    assert torch.equal(ids, full.argmax(1))
    expected = full.softmax(1)
    torch.testing.assert_close(probability, expected.amax(1), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(upsampled_probabilities(logits, large), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("make", [noise, areas])
@pytest.mark.parametrize(
    ("small", "large", "classes"), [((12, 40), (48, 160), 150), ((17, 33), (101, 203), 40), ((70, 60), (33, 47), 7)]
)
def test_predictions__equal_their_plain_twins_over_many_tiles(make, small, large, classes):
    logits = make(small, classes)
    full = full_size(logits, large)
    assert torch.equal(upsampled_argmax(logits, large), full.argmax(1))
    torch.testing.assert_close(upsampled_probabilities(logits, large), full.softmax(1), rtol=1e-10, atol=1e-10)


def test_probability_tiles__cover_every_picture_once():
    logits = noise((30, 40), 60)
    size = (97, 161)
    seen = torch.zeros(2, *size)
    built = torch.zeros(2, 60, *size, dtype=torch.float64)
    for tile in upsampled_probability_tiles(logits, size):
        seen[tile.picture, tile.rows, tile.columns] += 1
        built[tile.picture, :, tile.rows, tile.columns] = tile.probabilities
    assert (seen == 1).all()
    torch.testing.assert_close(built, full_size(logits, size).softmax(1), rtol=1e-10, atol=1e-10)


def test_probabilities__of_some_classes_are_rows_of_all():
    logits = noise((5, 5), 8)
    everything = full_size(logits, (13, 17)).softmax(1)
    torch.testing.assert_close(upsampled_probabilities(logits, (13, 17), classes=[6, 0]), everything[:, [6, 0]])
    assert upsampled_probabilities(logits, (13, 17), classes=[]).shape == (2, 0, 13, 17)


def test_probabilities__of_huge_logits_are_finite():
    logits = torch.tensor([[[[0.0, -900.0]], [[-900.0, 0.0]]]])
    expected = full_size(logits, (1, 9)).softmax(1)
    torch.testing.assert_close(upsampled_probabilities(logits, (1, 9)), expected)
    torch.testing.assert_close(upsampled_confidence(logits, (1, 9))[1], expected.amax(1))


@pytest.mark.parametrize("make", [noise, areas])
@pytest.mark.parametrize("bound", [-torch.inf, torch.inf], ids=["out", "in"])
def test_predictions__a_class_is_ruled_out_or_in(make, bound):
    # torch.nn.functional.interpolate itself gives NaN there: infinity times a weight of zero.
    logits = make((7, 9), 5)
    logits[:, 2] = bound
    expected = full_size(logits.clamp(-1e30, 1e30), (30, 31))
    assert torch.equal(upsampled_argmax(logits, (30, 31)), expected.argmax(1))
    torch.testing.assert_close(upsampled_probabilities(logits, (30, 31)), expected.softmax(1), rtol=1e-10, atol=1e-10)
    ids, probability = upsampled_confidence(logits, (30, 31))
    assert torch.equal(ids, expected.argmax(1))
    torch.testing.assert_close(probability, expected.softmax(1).amax(1), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_argmax__comes_in_the_type_asked_for(dtype):
    logits = areas((9, 9), 5)
    got = upsampled_argmax(logits, (30, 30), dtype=dtype)
    assert got.dtype == dtype
    assert torch.equal(got.long(), full_size(logits, (30, 30)).argmax(1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_predictions__of_half_precision_logits_are_computed_in_32_bits(dtype):
    logits = areas((9, 9), 5).to(dtype)
    full = full_size(logits.double(), (31, 31))
    same = upsampled_argmax(logits, (31, 31)) == full.argmax(1)
    assert same.float().mean() > 0.999
    probabilities = upsampled_probabilities(logits, (31, 31))
    assert probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities, full.softmax(1).float(), rtol=1e-4, atol=1e-6)


def test_argmax__of_equal_logits_is_the_first_class():
    assert not upsampled_argmax(torch.zeros(1, 7, 4, 4), (16, 16)).any()


def test_predictions__carry_no_gradient_and_change_nothing():
    logits = areas((6, 6), 4).requires_grad_()
    before = logits.detach().clone()
    results = [upsampled_argmax(logits, (9, 9)), *upsampled_confidence(logits, (9, 9))]
    results.append(upsampled_probabilities(logits, (9, 9)))
    assert not any(r.requires_grad for r in results)
    assert torch.equal(logits, before)


def test_predictions__of_no_pictures():
    empty = torch.zeros(0, 3, 4, 4)
    assert upsampled_argmax(empty, (8, 8)).shape == (0, 8, 8)
    assert upsampled_probabilities(empty, (8, 8)).shape == (0, 3, 8, 8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: upsampled_argmax(torch.zeros(3, 4, 4), (8, 8)), r"logits are \(3, 4, 4\)"),
        (lambda: upsampled_argmax(torch.zeros(1, 0, 4, 4), (8, 8)), "none of the last three zero"),
        (lambda: upsampled_confidence(torch.zeros(1, 3, 4, 4), (8,)), r"size is \(8,\)"),
        (lambda: upsampled_argmax(torch.zeros(1, 257, 1, 1), (8, 8), dtype=torch.uint8), "the ids of 257 classes"),
        (lambda: upsampled_confidence(torch.zeros(1, 129, 1, 1), (8, 8), dtype=torch.int8), "take torch.int64"),
        (lambda: upsampled_probabilities(torch.zeros(1, 3, 4, 4), (0, 8)), "each at least 1"),
        (lambda: upsampled_probabilities(torch.zeros(1, 3, 4, 4), (8, 8), classes=[1, 3]), r"no classes \[3\]"),
    ],
)
def test_predictions__refuse_what_makes_no_sense(call, message):
    with pytest.raises(InputError, match=message):
        call()
