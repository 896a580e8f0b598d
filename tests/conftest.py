import signal
import warnings

import pytest
from tests import warm

from lumora.errors import LumoraWarning


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """What Lumora keeps for the next time is kept for one test, and not in the home of whoever runs the tests."""
    monkeypatch.setenv("LUMORA_CACHE", str(tmp_path_factory.getbasetemp() / f"cache-{id(monkeypatch)}"))


@pytest.fixture(autouse=True)
def as_a_terminal_has_it():
    """Signals do what they usually do; what a shell runs in the background ignores Ctrl-C."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def warm_verifying(monkeypatch):
    """The process that verifies a bundle need not import torch first; a test of its beginning has its own fixture."""
    monkeypatch.setattr("lumora.bundle.verify.subprocess", warm)


@pytest.fixture(autouse=True)
def _small_models_are_meant_to_be():
    """Adapters of tiny layers are larger than the layers; what tests the warning of it catches it all the same."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "adapters are larger|.* larger than the layers", LumoraWarning)
        yield
