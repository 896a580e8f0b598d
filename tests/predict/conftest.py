import pytest
from tests.bundle.making import about_of, adapted, ready_base
from tests.predict.making import bundle_of

import lumora
from lumora.bundle import write


@pytest.fixture
def classifier(tmp_path):
    """A predictor of one label."""
    return lumora.load(bundle_of("vit", tmp_path)[0], device="cpu")


@pytest.fixture
def segmenter(tmp_path):
    """A predictor of masks."""
    return lumora.load(bundle_of("segformer", tmp_path)[0], device="cpu")


@pytest.fixture
def tagger(tmp_path):
    """A predictor of several labels."""
    base = ready_base(task="multilabel")
    write(tmp_path / "bundle", adapted(base), about_of(base, 64))
    from tests.bundle.making import pyramid

    return lumora.load(tmp_path / "bundle", device="cpu", base=pyramid())
