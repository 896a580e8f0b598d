import signal

import pytest


@pytest.fixture(autouse=True)
def as_a_terminal_has_it():
    """Signals do what they usually do; what a shell runs in the background ignores Ctrl-C."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
