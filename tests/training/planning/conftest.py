import warnings

import pytest

from lumora.data.scenes import write_scenes
from lumora.errors import LumoraWarning

SIDE = 96


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """Generated landscapes: class folders, and pictures with masks."""
    root = tmp_path_factory.mktemp("scenes")
    for task in ("classification", "segmentation"):
        write_scenes(root / task, 120, size=(SIDE, SIDE), task=task)
    return root


@pytest.fixture(autouse=True)
def _small_models_are_meant_to_be():
    """Adapters of tiny layers are larger than the layers."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "adapters are larger|.* larger than the layers", LumoraWarning)
        yield
