"""Names that packages fetch when they are first used."""

import importlib
import pkgutil

import pytest

PACKAGES = ("lumora", *(f"lumora.{name}" for name in ("bundle", "data", "predict", "serve", "studio", "training")))


@pytest.mark.parametrize("package", PACKAGES)
def test_names__are_no_modules(package):
    """Importing a module of the same name would put it in the name's place."""
    module = importlib.import_module(package)
    assert not set(module.__all__) & {found.name for found in pkgutil.iter_modules(module.__path__)}


def test_plain__stays_a_function_whatever_is_imported():
    import lumora.predict.plain_values  # noqa: F401
    from lumora.predict import plain

    assert callable(plain)
