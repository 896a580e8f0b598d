import pytest

from lumora.errors import RecipeError
from lumora.studio.wishes import CHOSEN, Wishes, settings_of


def test_settings_of__leaves_out_what_is_left_open():
    assert settings_of(Wishes(base=CHOSEN, method=CHOSEN, rate=" ", start_from="", more="\n")) == {}


def test_settings_of__has_everything_that_was_asked():
    wishes = Wishes(
        base="me/vit",
        method="All weights",
        epochs=" 4",
        batch_size="8",
        rate="1e-4",
        size="64",
        max_time="20m",
        start_from="runs/a/bundle",
        more="train.seed=3\n pictures.flip = 0",
    )
    assert settings_of(wishes) == {
        "base.name": "me/vit",
        "train.method": "full",
        "train.epochs": "4",
        "train.batch_size": "8",
        "train.rate": "1e-4",
        "pictures.size": "64",
        "train.max_time": "20m",
        "train.start_from": "runs/a/bundle",
        "train.seed": "3",
        "pictures.flip": " 0",
    }


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        (Wishes(rate="fast"), "train.rate is 'fast'"),
        (Wishes(more="lora.rank=3"), "did you mean lora.r"),
        (Wishes(more="nothing"), "write key=value"),
        (Wishes(rank="4", more="lora.r=8"), "lora.r is said twice"),
    ],
)
def test_settings_of__tells_what_cannot_be(wishes, said):
    with pytest.raises(RecipeError, match=said):
        settings_of(wishes)
