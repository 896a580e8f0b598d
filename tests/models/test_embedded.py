"""The weights that come with Lumora see what is on photographs: the ones that other packages carry."""

from pathlib import Path

import numpy as np
import pytest
import skimage
import sklearn.datasets
import timm.data
import torch
from PIL import Image

from lumora.errors import LumoraError
from lumora.models import build, embedded, preprocessing

SKIMAGE = Path(skimage.__file__).parent / "data"
SKLEARN = Path(sklearn.datasets.__file__).parent / "images"


@pytest.fixture(scope="module")
def model():
    return build("lumora/efficientnet-lite0").eval()


@pytest.fixture(scope="module")
def prepare(model):
    return preprocessing.from_timm(model.pretrained_cfg)


def seen(model, prepare, path, count=1):
    """The names of the classes that the model finds most likely, and how likely the first is."""
    rgb = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)
    with torch.no_grad():
        likely = model(prepare(rgb)[None]).softmax(-1)[0].topk(count)
    info = timm.data.ImageNetInfo()
    return [info.index_to_description(int(i)).split(",")[0] for i in likely.indices], likely.values[0].item()


@pytest.mark.parametrize(
    ("path", "names"),
    [
        (SKIMAGE / "coffee.png", {"espresso"}),
        (SKIMAGE / "chelsea.png", {"tiger cat", "Egyptian cat", "tabby"}),
        (SKIMAGE / "camera.png", {"tripod"}),
        (SKIMAGE / "rocket.jpg", {"missile", "projectile"}),
        (SKIMAGE / "motorcycle_left.png", {"moped", "motor scooter"}),
        (SKLEARN / "china.jpg", {"palace", "bell cote", "monastery", "stupa"}),
        (SKLEARN / "flower.jpg", {"daisy", "bee", "hip", "strawberry"}),
    ],
    ids=lambda value: value.stem if isinstance(value, Path) else "",
)
def test_embedded__photographs_are_what_they_show(model, prepare, path, names):
    best, probability = seen(model, prepare, path)
    assert set(best) <= names
    assert probability > 0.1


def test_embedded__an_archive_of_another_model_is_refused():
    import timm

    with pytest.raises(LumoraError, match="does not hold the tensors"):
        embedded.load_weights(timm.create_model("tf_efficientnet_lite1"))


def test_embedded__unknown_names_are_answered_with_the_known():
    with pytest.raises(LumoraError, match=r"no embedded base 'resnet18' \(did you mean lumora/efficientnet-lite0"):
        build("lumora/resnet18")
