import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lumora.errors import InputError
from lumora.ops import upsampled_cross_entropy, upsampled_cross_entropy_and_dice

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))
LARGE = st.tuples(st.integers(1, 40), st.integers(1, 40))


def plain_cross_entropy(logits, target, ignore_index=255, **options):
    full = F.interpolate(logits, size=target.shape[-2:], mode="bilinear", align_corners=False)
    return F.cross_entropy(full, target.long(), ignore_index=ignore_index, **options)


def plain_dice(logits, target, ignore_index=255, smooth=1.0):
    full = F.interpolate(logits, size=target.shape[-2:], mode="bilinear", align_corners=False)
    counts = target != ignore_index
    own = F.one_hot(torch.where(counts, target.long(), 0), logits.shape[1]).movedim(-1, 1) * counts[:, None]
    predicted = full.softmax(1) * counts[:, None]
    sizes = (predicted + own).sum((0, 2, 3))
    losses = 1 - (2 * (predicted * own).sum((0, 2, 3)) + smooth) / (sizes + smooth)
    return losses[own.sum((0, 2, 3)) > 0].mean()


def case(small, large, classes, batch=2, scale=3.0, ignored=0.2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, classes, *small, generator=generator, dtype=torch.float64) * scale
    target = torch.randint(0, classes, (batch, *large), generator=generator)
    target[torch.rand(batch, *large, generator=generator) < ignored] = 255
    target[0, 0, 0] = 0  # at least one pixel counts
    return logits.requires_grad_(), target


def assert_same(ours, plain, logits):
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    # Different weights from above show that each loss brings its own gradient.
    above = torch.tensor([1.3, -0.7], dtype=torch.float64)[: len(ours)]
    (got,) = torch.autograd.grad((torch.stack(tuple(ours)) * above).sum(), logits, retain_graph=True)
    (expected,) = torch.autograd.grad((torch.stack(tuple(plain)) * above).sum(), logits, retain_graph=True)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(
    small=SIZES,
    large=LARGE,
    classes=st.integers(1, 6),
    smoothing=st.sampled_from([0.0, 0.1, 1.0]),
    weighted=st.booleans(),
    scale=st.sampled_from([1.0, 400.0]),
    seed=st.integers(0, 99),
)
def test_both_losses__equal_their_plain_twins_at_any_sizes(small, large, classes, smoothing, weighted, scale, seed):
    logits, target = case(small, large, classes, scale=scale, seed=seed)
    weight = torch.rand(classes, dtype=torch.float64) + 0.1 if weighted else None
    expected = plain_cross_entropy(logits, target, weight=weight, label_smoothing=smoothing)
    alone = upsampled_cross_entropy(logits, target, weight=weight, label_smoothing=smoothing)
    assert_same([alone], [expected], logits)
    both = upsampled_cross_entropy_and_dice(logits, target, weight=weight, label_smoothing=smoothing)
    assert_same(both, [expected, plain_dice(logits, target)], logits)


@pytest.mark.parametrize(
    ("small", "large", "classes"),
    [((12, 40), (48, 160), 150), ((17, 33), (101, 203), 40), ((70, 60), (33, 47), 7), ((3, 3), (300, 520), 3)],
    ids=["by four", "not whole", "down", "many tiles"],
)
def test_both_losses__equal_their_plain_twins_over_many_tiles(small, large, classes):
    logits, target = case(small, large, classes)
    expected = plain_cross_entropy(logits, target)
    assert_same([upsampled_cross_entropy(logits, target)], [expected], logits)
    both = upsampled_cross_entropy_and_dice(logits, target, smooth=0.0)
    assert_same(both, [expected, plain_dice(logits, target, smooth=0.0)], logits)


def test_cross_entropy__gradcheck():
    logits, target = case((3, 4), (7, 9), 4)
    weight = torch.tensor([1.0, 0.5, 2.0, 0.1], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x: upsampled_cross_entropy(x, target, weight=weight, label_smoothing=0.2), (logits,)
    )


def test_cross_entropy_and_dice__gradcheck():
    logits, target = case((3, 4), (7, 9), 4)
    assert torch.autograd.gradcheck(
        lambda x: upsampled_cross_entropy_and_dice(x, target, label_smoothing=0.2), (logits,)
    )


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16, torch.int32, torch.int64])
@pytest.mark.parametrize("ignore_index", [255, 0, 3])
def test_losses__take_any_integer_type_and_ignored_id(dtype, ignore_index):
    logits, target = case((4, 4), (9, 9), 5, ignored=0.0)
    if ignore_index == 255:
        target[:, :3] = 255
        target[0, 3] = 1
    expected = plain_cross_entropy(logits, target, ignore_index)
    torch.testing.assert_close(
        upsampled_cross_entropy(logits, target.short().to(dtype), ignore_index=ignore_index), expected
    )


def test_cross_entropy__a_negative_ignored_id_means_that_id_alone():
    logits, target = case((4, 4), (9, 9), 200, ignored=0.0)
    target[0, 0] = 156  # what -100 is in eight bits
    expected = plain_cross_entropy(logits, target, ignore_index=-100)
    got = upsampled_cross_entropy(logits, target.to(torch.uint8), ignore_index=-100)
    torch.testing.assert_close(got, expected)
    with pytest.raises(InputError, match="the ids 156"):
        upsampled_cross_entropy(logits[:, :156], target.clamp(max=156).to(torch.uint8), ignore_index=-100)


def test_cross_entropy__of_more_classes_than_the_ids_type_can_count():
    logits, target = case((4, 4), (9, 9), 300, ignored=0.0)
    target.clamp_(max=250)
    got = upsampled_cross_entropy(logits, target.to(torch.uint8))
    torch.testing.assert_close(got, plain_cross_entropy(logits, target))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_cross_entropy__reductions(reduction):
    logits, target = case((4, 5), (9, 11), 3)
    expected = plain_cross_entropy(logits, target, reduction=reduction)
    assert_same([upsampled_cross_entropy(logits, target, reduction=reduction)], [expected], logits)


@pytest.mark.parametrize("shape", [(2, 9, 9), (2, 0, 4), (0, 4, 4)], ids=["ignored", "no pixels", "no pictures"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses__without_a_pixel_that_counts_are_zero_with_zero_gradients(shape, smoothing):
    logits = torch.randn(shape[0], 5, 4, 4, requires_grad=True)
    target = torch.full(shape, 255, dtype=torch.uint8)
    losses = [
        upsampled_cross_entropy(logits, target, label_smoothing=smoothing),
        *upsampled_cross_entropy_and_dice(logits, target, label_smoothing=smoothing),
    ]
    for loss in losses:
        assert loss.item() == 0
        (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
        assert gradient.shape == logits.shape and not gradient.any()


def test_cross_entropy__of_distant_logits_does_not_underflow():
    # In the middle between two sure and opposite pixels every exponential of the shifted logits vanishes in 32 bits.
    logits = torch.tensor([[[[0.0, -900.0]], [[-900.0, 0.0]], [[-1000.0, -1000.0]]]]).requires_grad_()
    target = torch.zeros(1, 1, 9, dtype=torch.long)
    ours = [upsampled_cross_entropy(logits, target), *upsampled_cross_entropy_and_dice(logits, target)]
    plain = [plain_cross_entropy(logits, target), plain_cross_entropy(logits, target), plain_dice(logits, target)]
    for got, expected in zip(ours, plain, strict=True):
        torch.testing.assert_close(got, expected)
        gradients = [torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (got, expected)]
        torch.testing.assert_close(*gradients)


def test_cross_entropy__just_inside_the_guard_is_exact():
    # The largest range that is taken without a guard, where all four neighbours disagree.
    logits = torch.full((1, 4, 2, 2), -99.0)
    for c in range(4):
        logits[0, c, c // 2, c % 2] = 0.0
    target = torch.randint(0, 4, (1, 11, 11), generator=torch.Generator().manual_seed(0))
    expected = plain_cross_entropy(logits.double(), target).float()
    torch.testing.assert_close(upsampled_cross_entropy(logits, target), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses__of_half_precision_logits_are_computed_in_32_bits(dtype):
    logits, target = case((8, 8), (32, 32), 20)
    half = logits.detach().to(dtype).requires_grad_()
    exact = half.detach().double().requires_grad_()
    ours = [upsampled_cross_entropy(half, target), *upsampled_cross_entropy_and_dice(half, target)]
    expected_ce = plain_cross_entropy(exact, target)
    for got, expected in zip(ours, [expected_ce, expected_ce, plain_dice(exact, target)], strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-6)
        (gradient,) = torch.autograd.grad(got, half, retain_graph=True)
        (reference,) = torch.autograd.grad(expected, exact, retain_graph=True)
        assert gradient.dtype == dtype
        torch.testing.assert_close(gradient, reference.to(dtype), rtol=1e-2, atol=1e-7)


def test_cross_entropy__a_scaled_loss_keeps_gradients_that_half_precision_would_lose():
    logits = torch.zeros(1, 2, 2, 2, dtype=torch.float16, requires_grad=True)
    target = torch.ones(1, 2, 2, dtype=torch.long)
    loss = upsampled_cross_entropy(logits, target, weight=torch.tensor([1.0, 1e-9]), reduction="sum")
    (loss * 2.0**16).backward()
    torch.testing.assert_close(logits.grad[0, 0].float(), torch.full((2, 2), 0.5e-9 * 2**16), rtol=1e-2, atol=0)


@pytest.mark.parametrize("everywhere", [True, False], ids=["everywhere", "in one pixel"])
def test_losses__a_class_that_is_ruled_out_is_none(everywhere):
    # torch.nn.functional.interpolate itself gives NaN there: minus infinity times a weight of zero.
    logits, target = case((5, 6), (17, 23), 4)
    target = torch.where(target == 3, 255, target)
    ruled_out = logits.detach().clone()
    if everywhere:
        ruled_out[:, 3] = -torch.inf
    else:
        ruled_out[1, 3, 2, 2] = -torch.inf
    nearly = ruled_out.clamp(min=-1e30).requires_grad_()
    ruled_out.requires_grad_()
    ours = upsampled_cross_entropy_and_dice(ruled_out, target)
    plain = [plain_cross_entropy(nearly, target), plain_dice(nearly, target)]
    gradients = [torch.autograd.grad(sum(losses), x) for losses, x in ((ours, ruled_out), (plain, nearly))]
    for got, expected in zip((*ours, *gradients[0]), (*plain, *gradients[1]), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


def test_cross_entropy__logits_as_far_apart_as_32_bits_go():
    logits = torch.tensor([[[[3e38, -3e38]], [[-3e38, 3e38]]]])
    target = torch.tensor([[[0, 0, 1, 1]]])
    assert upsampled_cross_entropy(logits, target) == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_losses__are_in_32_bits_whatever_type_torch_makes_by_default(dtype):
    logits, target = case((4, 4), (9, 9), 3)
    logits = logits.detach().float().requires_grad_()
    expected = upsampled_cross_entropy_and_dice(logits, target)
    torch.set_default_dtype(dtype)
    try:
        losses = [upsampled_cross_entropy(logits, target), *upsampled_cross_entropy_and_dice(logits, target)]
        sum(losses).backward()
    finally:
        torch.set_default_dtype(torch.float32)
    for got, value in zip(losses, (expected[0], *expected), strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, value)


SETTINGS = {
    "plain": {},
    "weighted": {"weight": torch.tensor([0.0, 1.0, 2.0, 0.5], dtype=torch.float64), "label_smoothing": 0.2},
}


@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS)
def test_losses__inside_functional_transforms_are_the_same(options):
    logits, target = case((4, 5), (11, 9), 4)

    def both(x):
        return sum(upsampled_cross_entropy_and_dice(x, target, **options))

    def summed(x):
        return upsampled_cross_entropy(x, target, reduction="sum", **options)

    for loss in (both, summed):
        (expected,) = torch.autograd.grad(loss(logits), logits)
        found, value = torch.func.grad_and_value(loss)(logits.detach())
        torch.testing.assert_close(value, loss(logits), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
        along = torch.ones_like(expected).cumsum(3)
        _, slope = torch.func.jvp(loss, (logits.detach(),), (along,))
        torch.testing.assert_close(slope, (expected * along).sum(), rtol=1e-10, atol=1e-10)


def test_losses__inside_vmap_are_those_of_each_sample():
    logits, target = case((4, 5), (11, 9), 4, batch=3)
    target[2] = 255

    def loss(x, t):
        return sum(upsampled_cross_entropy_and_dice(x[None], t[None]))

    found = torch.func.vmap(torch.func.grad(loss))(logits.detach(), target)
    for one, x, t in zip(found, logits, target, strict=True):
        (expected,) = torch.autograd.grad(loss(x, t), x)
        torch.testing.assert_close(one, expected, rtol=1e-10, atol=1e-10)


def test_losses__under_autocast_are_the_same():
    logits, target = case((8, 8), (32, 32), 20)
    logits = logits.detach().float().requires_grad_()
    results = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses = [upsampled_cross_entropy(logits, target), *upsampled_cross_entropy_and_dice(logits, target)]
            (gradient,) = torch.autograd.grad(sum(losses), logits)
        results.append((*losses, gradient))
    for got, expected in zip(*results, strict=True):
        assert torch.equal(got, expected)


def test_cross_entropy__without_gradients_is_the_same():
    logits, target = case((4, 4), (16, 16), 3)
    expected = upsampled_cross_entropy(logits, target)
    with torch.no_grad():
        got = upsampled_cross_entropy(logits, target)
    assert not got.requires_grad
    torch.testing.assert_close(got, expected.detach(), rtol=1e-14, atol=0)
    with torch.inference_mode():
        torch.testing.assert_close(upsampled_cross_entropy(logits, target).clone(), got, rtol=1e-14, atol=0)


def test_losses__take_logits_that_do_not_lie_in_one_piece():
    logits, target = case((6, 5), (12, 12), 4)
    turned = logits.detach().permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2).requires_grad_()
    assert_same(
        upsampled_cross_entropy_and_dice(turned, target.transpose(1, 2).contiguous().transpose(1, 2)),
        [plain_cross_entropy(turned, target), plain_dice(turned, target)],
        turned,
    )


def test_cross_entropy__leaves_logits_as_they_were():
    logits, target = case((4, 4), (9, 9), 3)
    before = logits.detach().clone()
    upsampled_cross_entropy(logits, target).backward()
    upsampled_cross_entropy_and_dice(logits, target)[1].backward()
    assert torch.equal(logits, before)


def test_cross_entropy__names_nothing_but_a_number_when_logits_are_not_finite():
    logits, target = case((4, 4), (9, 9), 3)
    broken = logits.detach().clone()
    broken[0, 1, 2, 2] = torch.nan
    assert upsampled_cross_entropy(broken, target).isnan()


@pytest.mark.parametrize("function", [upsampled_cross_entropy, upsampled_cross_entropy_and_dice])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": torch.zeros(3, 4, 4)}, r"logits are \(3, 4, 4\).*expected"),
        ({"logits": torch.zeros(1, 3, 4, 4, dtype=torch.long)}, "int64"),
        ({"logits": torch.zeros(1, 3, 0, 4)}, "at least one class and one pixel"),
        ({"target": torch.zeros(2, 8, 8, dtype=torch.long)}, r"expected integers of \(1, height, width\)"),
        ({"target": torch.zeros(1, 1, 8, 8, dtype=torch.long)}, "expected integers"),
        ({"target": torch.zeros(1, 8, 8)}, "float32"),
        ({"target": torch.full((1, 8, 8), 3)}, "ids 3, but the logits have the classes 0 to 2"),
        ({"target": torch.arange(10, 74).view(1, 8, 8)}, r"ids 10, 11, 12, 13, 14, \.\.\."),
        ({"target": torch.full((1, 8, 8), -1)}, "ids -1"),
        ({"weight": torch.ones(4)}, "expected one for each of 3 classes"),
        ({"weight": torch.ones(3, requires_grad=True)}, r"pass weight\.detach\(\)"),
        ({"label_smoothing": 1.5}, "between 0 and 1"),
    ],
)
def test_losses__refuse_what_makes_no_sense(function, change, message):
    arguments = {"logits": torch.zeros(1, 3, 4, 4), "target": torch.zeros(1, 8, 8, dtype=torch.long)} | change
    logits, target = arguments.pop("logits"), arguments.pop("target")
    with pytest.raises(InputError, match=message):
        function(logits, target, **arguments)


def test_cross_entropy__refuses_an_unknown_reduction():
    with pytest.raises(InputError, match="'none'"):
        upsampled_cross_entropy(torch.zeros(1, 2, 2, 2), torch.zeros(1, 4, 4, dtype=torch.long), reduction="none")


def test_cross_entropy__says_that_it_cannot_be_differentiated_twice():
    logits, target = case((3, 3), (6, 6), 3)
    (gradient,) = torch.autograd.grad(upsampled_cross_entropy(logits, target) ** 2, logits, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()
