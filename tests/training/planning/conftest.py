import pytest

from lumora.data.scenes import write_scenes

SIDE = 96


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """Generated landscapes: class folders, and pictures with masks."""
    root = tmp_path_factory.mktemp("scenes")
    for task in ("classification", "segmentation"):
        write_scenes(root / task, 120, size=(SIDE, SIDE), task=task)
    return root
