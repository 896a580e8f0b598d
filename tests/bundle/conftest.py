import pytest
from tests.bundle.making import about_of, adapted, base_of

from lumora.bundle import write


@pytest.fixture
def vit(tmp_path):
    """A base of transformers, its adapted model, and its bundle."""
    base, side = base_of("vit", tmp_path / "base")
    model, about = adapted(base), about_of(base, side)
    write(tmp_path / "bundle", model, about)
    return tmp_path / "bundle", model, about
