from __future__ import annotations

import pytest
import torch
from tests.lora.reference import seeded

from lumora.lora.dropout import dropped, keep_mask


@pytest.mark.parametrize("p", [0.001, 0.1, 0.25, 0.5, 0.9, 0.999])
def test_keep_mask__keeps_the_promised_share_within_a_step_and_exactly_on_average(p: float) -> None:
    n, draws = 40_000, 400
    with seeded(3):
        shares = []
        for _ in range(draws):
            mask = keep_mask(torch.empty(n), p)
            assert set(mask.unique().tolist()) <= {0, 1}
            shares.append(mask.double().mean().item())
    spread = (p * (1 - p) / n) ** 0.5
    assert max(abs(share - (1 - p)) for share in shares) < 1 / 256 + 5 * spread
    of_a_mask = spread + 0.5 / 256  # a mask's probability is one of two neighbouring steps
    assert abs(sum(shares) / draws - (1 - p)) < 5 * of_a_mask / draws**0.5


@pytest.mark.parametrize("distance", [1, 2, 3, 4, 5, 64, 1000])
def test_keep_mask__elements_do_not_depend_on_each_other(distance: int) -> None:
    n = 400_000
    mask = keep_mask(torch.empty(n + distance), 0.5).double() - 0.5
    correlation = (mask[:-distance] * mask[distance:]).mean().item() / 0.25
    assert abs(correlation) < 5 / n**0.5


def test_keep_mask__every_place_of_a_word_is_as_likely() -> None:
    mask = keep_mask(torch.empty(400_000), 0.3).double().view(-1, 8)
    share = mask.mean()
    assert ((mask.mean(0) - share).abs() < 5 * (0.21 / 50_000) ** 0.5).all()


def test_keep_mask__differs_every_time_and_repeats_with_the_seed() -> None:
    like = torch.empty(3, 1001)
    torch.manual_seed(7)
    first, second = keep_mask(like, 0.5), keep_mask(like, 0.5)
    torch.manual_seed(7)
    assert torch.equal(keep_mask(like, 0.5), first)
    agreement = (first == second).double().mean().item()
    assert 0.4 < agreement < 0.6


def test_keep_mask__does_not_depend_on_the_number_of_threads() -> None:
    like, before = torch.empty(100_003), torch.get_num_threads()
    masks = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            torch.manual_seed(7)
            masks.append(keep_mask(like, 0.5))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(masks[0], masks[1])
    assert torch.equal(masks[0], masks[2])


@pytest.mark.parametrize("shape", [(0,), (1,), (3,), (4,), (5,), (0, 7), (2, 3, 5)])
def test_keep_mask__has_the_shape_of_its_model(shape: tuple[int, ...]) -> None:
    assert keep_mask(torch.empty(shape), 0.5).shape == shape


@pytest.mark.parametrize(("p", "kept"), [(1e-9, 1), (1 - 1e-9, 0)])
def test_keep_mask__extreme_probabilities_keep_all_or_nothing(p: float, kept: int) -> None:
    with seeded(3):
        assert (keep_mask(torch.empty(1000), p) == kept).all()


def test_dropped__zeroes_what_the_mask_drops_and_leaves_its_input_alone() -> None:
    x = torch.randn(5, 7, dtype=torch.float64)
    before, mask = x.clone(), keep_mask(x, 0.5)
    assert torch.equal(dropped(x, mask), torch.where(mask == 1, x, 0.0))
    assert torch.equal(x, before)
