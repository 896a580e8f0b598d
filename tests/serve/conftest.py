import warnings

import pytest
from tests.serve.making import base_folder, bundle
from tests.serve.running import Running

from lumora.errors import LumoraWarning


@pytest.fixture(autouse=True)
def _small_models_are_meant_to_be():
    """Adapters of tiny layers are larger than the layers."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "adapters are larger|.* larger than the layers", LumoraWarning)
        yield


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    """A folder with bundles on a ViT: two of labels, two of masks."""
    folder = tmp_path_factory.mktemp("served")
    vit = base_folder("vit", folder / "bases/vit")
    light = base_folder("vit-light", folder / "bases/vit-light")
    home = folder / "bundles"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LumoraWarning)
        bundle(home / "animals", *vit)
        bundle(home / "birds", *vit, labels=5, seed=1, rank=4)
        bundle(home / "places", *light, seed=2)
        bundle(home / "spots", *light, labels=5, seed=3)
    return home


@pytest.fixture(scope="session")
def server(bundles):
    """A server for all of them."""
    with Running(bundles) as running:
        yield running
