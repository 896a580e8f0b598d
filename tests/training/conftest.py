import signal

import pytest
from tests.training.tiny import save_pictures


@pytest.fixture(autouse=True)
def as_a_terminal_has_it():
    """Signals do what they usually do; what a shell runs in the background ignores Ctrl-C."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Folders with a few drawn pictures: `classes`, and `masked`."""
    return save_pictures(tmp_path_factory.mktemp("pictures"))
