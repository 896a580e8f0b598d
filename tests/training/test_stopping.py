import os
import signal

import pytest

from lumora.training.stopping import StopRequest, heeding_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals__ask_for_a_stop_instead_of_ending_the_program(number):
    request, before = StopRequest(), signal.getsignal(number)
    assert not request.asked
    with heeding_signals(request):
        os.kill(os.getpid(), number)
        assert request.asked
    assert request.signal == number
    assert signal.getsignal(number) is before


def test_signals__that_are_ignored_stay_so():
    request = StopRequest()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with heeding_signals(request):
        os.kill(os.getpid(), signal.SIGINT)
    assert not request.asked


def test_signals__a_second_one_stops_at_once():
    request = StopRequest()
    with pytest.raises(KeyboardInterrupt), heeding_signals(request):
        os.kill(os.getpid(), signal.SIGINT)
        assert request.asked
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
