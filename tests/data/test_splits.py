from collections import Counter

import pytest

from lumora.data.content import InMemory
from lumora.data.sample import StoredSample
from lumora.data.splits import Divided, divide, position


def samples(*counts, prefix=""):
    """So many samples of each class."""
    return [
        StoredSample(f"{prefix}{label}/{i}.png", InMemory(b""), label)
        for label, n in enumerate(counts)
        for i in range(n)
    ]


def sides(divided):
    return {sample.key: split for split, of in divided.items() for sample in of}


SHARES = {"validation": 0.2, "test": 0.1}


def divided(of, seed=0, shares=SHARES, group=None):
    return divide(of, shares, seed, group or range(len(of)))


def test_divide__gives_every_class_its_shares():
    counts = Counter((split, sample.target) for split, of in divided(samples(1000, 400)).items() for sample in of)
    for label, size in enumerate((1000, 400)):
        for split, share in {"train": 0.7, **SHARES}.items():
            assert counts[split, label] == pytest.approx(size * share, abs=4 * (size * share * (1 - share)) ** 0.5)


def test_divide__every_sample_is_on_one_side_and_in_order():
    of = samples(50, 50)
    found = divided(of)
    assert sorted(key for split in found.values() for key in (s.key for s in split)) == sorted(s.key for s in of)
    assert all(
        [s.key for s in split] == sorted((s.key for s in split), key=[s.key for s in of].index)
        for split in found.values()
    )


def test_divide__adding_a_picture_moves_no_other():
    of = samples(60, 60)
    before = sides(divided(of))
    for added in samples(3, 3, prefix="new-"):
        after = sides(divided([added, *of]))
        assert {key: after[key] for key in before} == before


def test_divide__depends_on_key_and_seed_and_not_on_the_order():
    of = samples(60, 60)
    assert sides(divided(of)) == sides(divided(of[::-1]))
    assert sides(divided(of)) != sides(divided(of, seed=1))


def test_divide__is_the_same_on_every_machine_and_for_ever():
    """A change here would move the pictures of everyone who trained before."""
    assert position("cats/1.jpg", 0) == pytest.approx(0.5509096, abs=1e-6)
    assert [position(f"{i}.png", 7) < 0.2 for i in range(12)].count(True) == 0


@pytest.mark.parametrize("size", [3, 4, 5, 8, 13])
def test_divide__small_classes_are_on_every_side(size):
    for seed in range(20):
        found = divided(samples(size, size, 200), seed)
        counts = Counter((split, sample.target) for split, of in found.items() for sample in of)
        assert all(counts[split, label] for split in found for label in (0, 1, 2))
        for label in (0, 1):
            assert all(counts[split, label] >= int(size * share / 2) for split, share in SHARES.items())


def test_divide__a_single_picture_of_a_class_is_learnt_from_or_measured_but_the_others_are_not_moved():
    of = samples(100)
    alone = StoredSample("odd.png", InMemory(b""), 1)
    assert sides(divided(of)).items() <= sides(divided([*of, alone])).items()


def test_divide__groups_stay_together():
    of = samples(100, 100)
    group = [i - i % 4 for i in range(200)]
    side = sides(divided(of, group=group))
    assert all(len({side[s.key] for s in of[i : i + 4]}) == 1 for i in range(0, 200, 4))
    assert len(set(side.values())) == 3


def test_divide__several_labels_each_have_their_share():
    of = [StoredSample(f"{i}.png", InMemory(b""), (i % 2, 2) if i % 50 == 0 else (i % 2,)) for i in range(300)]
    for seed in range(10):
        found = divided(of, seed)
        assert all(any(2 in s.target for s in split) for split in found.values())


def test_divide__without_targets():
    found = divided([StoredSample(f"{i}", InMemory(b"")) for i in range(10)])
    assert all(found.values())


def test_a_split_added_later__takes_from_the_others_only_what_it_needs():
    of = samples(300)
    without, with_test = sides(divided(of, shares={"validation": 0.2})), sides(divided(of))
    assert {key for key, split in with_test.items() if split == "train"} <= {
        key for key, split in without.items() if split == "train"
    }


def test_divided__draws_when_asked_and_once():
    asked = []

    def grouped(of):
        asked.append(len(of))
        return range(len(of))

    of, given = samples(30), {"test": samples(3, prefix="t")}
    splits = Divided(of, {"validation": 0.2}, 0, grouped, given)
    assert list(splits) == ["train", "validation", "test"]
    assert len(splits) == 3
    assert "validation" in splits
    assert splits["test"] == given["test"]
    assert not asked
    assert len(splits["train"]) + len(splits["validation"]) == 30
    assert asked == [30]
    with pytest.raises(KeyError):
        splits["nothing"]
