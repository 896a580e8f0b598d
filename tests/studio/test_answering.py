import pytest

from lumora.errors import DataError
from lumora.studio.tabs.answering import telling


def working(result):
    @telling(2)
    def work():
        if isinstance(result, Exception):
            raise result
        return result

    return work()


def test_telling__nothing_is_told_where_all_went_well():
    assert working(("a", "b")) == ["", "a", "b"]


@pytest.mark.parametrize("error", [DataError("It is <gone>."), OSError("It is <gone>.")])
def test_telling__an_error_is_told_and_no_markup(error, capsys):
    told, *others = working(error)
    assert "It is &lt;gone&gt;." in told
    assert len(others) == 2
    assert capsys.readouterr().err == ""


def test_telling__an_error_that_nobody_foresaw_is_told_and_its_traceback_goes_to_the_terminal(capsys):
    told, *others = working(MemoryError("nothing is left"))
    assert "MemoryError: nothing is left" in told
    assert len(others) == 2
    assert "Traceback" in capsys.readouterr().err
