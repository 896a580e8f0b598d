import shutil

import pytest
from tests.predict.making import bundle_of
from tests.studio.made import made_run
from tests.studio.opened import a_page, a_studio
from tests.tiny_models import save_segformer, save_vit
from tests.training.tiny import save_pictures

from lumora.studio.workshop import Workshop


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Folders with a few drawn pictures: `classes`, and `masked`."""
    return save_pictures(tmp_path_factory.mktemp("studio-pictures"))


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    """The folders of bundles that nobody has trained: one that says labels, one that draws masks."""
    root = tmp_path_factory.mktemp("studio-bundles")
    return {kind: bundle_of(kind, root / kind)[0] for kind in ("vit", "segformer")}


@pytest.fixture
def workshop(tmp_path):
    (tmp_path / "runs").mkdir(exist_ok=True)
    (tmp_path / "scratch").mkdir()
    return Workshop(tmp_path / "runs", tmp_path / "scratch")


@pytest.fixture
def studio(tmp_path):
    """Start `lumora studio` as a process: `studio("data", "--runs", folder)` gives where it is."""
    with a_studio(tmp_path) as start:
        yield start


@pytest.fixture
def page():
    """A page in a real browser, and what it asked for and complained about."""
    with a_page() as page:
        yield page


@pytest.fixture(scope="session")
def vit(tmp_path_factory):
    """The folder of a small ViT."""
    return save_vit(tmp_path_factory.mktemp("studio-vit") / "vit", seed=3)


@pytest.fixture(scope="session")
def segformer(tmp_path_factory):
    """The folder of a small SegFormer."""
    return save_segformer(tmp_path_factory.mktemp("studio-segformer") / "segformer", seed=4, side=32)


@pytest.fixture
def labelled_run(tmp_path, pictures, vit):
    """The folder of a finished run that says labels; its data may be corrected."""
    shutil.copytree(pictures / "classes", tmp_path / "colours")
    return made_run(tmp_path / "colours", vit, tmp_path / "runs/colours")


@pytest.fixture
def masked_run(tmp_path, pictures, segformer):
    """The folder of a finished run that draws masks; its data may be corrected."""
    shutil.copytree(pictures / "masked", tmp_path / "places")
    return made_run(tmp_path / "places", segformer, tmp_path / "runs/places")
