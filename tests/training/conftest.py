import pytest
from tests.training.tiny import save_pictures


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Folders with a few drawn pictures: `classes`, and `masked`."""
    return save_pictures(tmp_path_factory.mktemp("pictures"))
