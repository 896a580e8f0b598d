import pytest
import torch
from tests.training.small import result, small_loop

from lumora.errors import TrainingError
from lumora.training.events import Listener
from lumora.training.loop import Course, Ending
from lumora.training.stopping import StopRequest


class Heard(Listener):
    """Remembers everything; asks for a stop after some step."""

    def __init__(self, stop=None, after=None):
        self.steps, self.epochs, self.texts = [], [], []
        self.stop, self.after = stop, after

    def step_done(self, event):
        self.steps.append(event)
        if event.step == self.after:
            self.stop.ask(2)

    def epoch_done(self, event):
        self.epochs.append(event)

    def told(self, text):
        self.texts.append(text)


def rows(heard):
    return [{name: value for name, value in event.row().items() if name != "seconds"} for event in heard.epochs]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("masked", [False, True], ids=["classification", "segmentation"])
@pytest.mark.parametrize("adapted", [True, False], ids=["lora", "full"])
def test_loop__interrupted_and_gone_on_with_ends_with_the_same_bits(masked, adapted, workers):
    shape = {"masked": masked, "adapted": adapted}
    heard = Heard()
    whole = small_loop(**shape, listener=heard)
    assert whole.run() is Ending.COMPLETE
    for after in (1, 4, 5, 9, 14, 15) if not workers else (7,):
        saved, stop = [], StopRequest()
        first = Heard(stop, after)
        begun = small_loop(**shape, workers=workers, save=saved.append, listener=first, stop=stop)
        assert begun.run() is Ending.ASKED
        second = Heard()
        again = small_loop(**shape, workers=workers, listener=second)
        again.load(*saved[-1])
        assert again.run() is Ending.COMPLETE
        expected, got = result(whole), result(again)
        assert expected.keys() == got.keys()
        assert [name for name in got if not torch.equal(got[name], expected[name])] == []
        assert rows(first) + rows(second) == rows(heard)


def test_loop__learns():
    heard = Heard()
    small_loop(course=Course(12), listener=heard).run()
    assert heard.epochs[-1].scores["accuracy"] == 1
    assert heard.epochs[0].loss is None
    assert heard.epochs[-1].loss < heard.epochs[1].loss
    assert [event.step for event in heard.steps] == list(range(1, 61))


def test_loop__keeps_the_best_and_not_the_last():
    heard = Heard()
    loop = small_loop(course=Course(6), listener=heard, rate=0.3)
    loop.run()
    scores = [event.scores["accuracy"] for event in heard.epochs]
    assert loop.progress.best == max(scores)
    assert loop.progress.best_epoch == scores.index(max(scores))
    assert [event.is_best for event in heard.epochs] == [
        score > max(scores[:i], default=-1) for i, score in enumerate(scores)
    ]


def test_loop__ends_after_some_epochs_without_gain_and_stays_ended():
    loop = small_loop(course=Course(30, patience=2), rate=1e-9)
    assert loop.run() is Ending.NO_GAIN
    assert loop.progress.epoch == 2
    again = small_loop(course=Course(30, patience=2), rate=1e-9)
    again.load(*loop.state())
    assert again.run() is Ending.NO_GAIN
    assert again.progress.step == loop.progress.step


def test_loop__ends_when_the_time_is_over_and_can_go_on_with_more():
    loop = small_loop(course=Course(3, max_seconds=0.0))
    assert loop.run() is Ending.TIME
    assert loop.progress.step == 0
    again = small_loop(course=Course(3))
    again.load(*loop.state())
    assert again.run() is Ending.COMPLETE
    whole = small_loop()
    whole.run()
    assert all(torch.equal(tensor, result(whole)[name]) for name, tensor in result(again).items())


def test_loop__saving_changes_nothing():
    saved = []
    often = small_loop(course=Course(2, checkpoint_every=0.0), save=saved.append)
    often.run()
    seldom = small_loop(course=Course(2))
    seldom.run()
    assert len(saved) >= 10
    assert all(torch.equal(tensor, result(seldom)[name]) for name, tensor in result(often).items())


def test_loop__halves_the_rates_where_steps_give_no_numbers_and_gives_up_at_last():
    heard = Heard()
    loop = small_loop(listener=heard, course=Course(9))
    with torch.no_grad():
        loop.work.model.get_base_model().norm.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"no finite number in 12 steps in a row.*lumora doctor"):
        loop.run()
    assert "which was left out" in heard.texts[0]
    assert ["All learning rates are halved" in text for text in heard.texts[1:]] == [True] * 3
    rates = [event.rate for event in heard.steps]
    assert rates[10] < rates[2] / 4


def test_loop__notices_that_one_class_is_said_of_everything():
    heard = Heard()
    loop = small_loop(listener=heard, rate=1e-9, course=Course(3))
    with torch.no_grad():
        head = loop.work.model.get_base_model().classifier.modules_to_save["default"]
        head.bias.copy_(torch.tensor([0.0, 99.0, 0.0]))
        for values in (loop.work.average.values,):
            next(value for name, value in values.items() if "classifier" in name and "bias" in name).copy_(head.bias)
    loop.run()
    assert [text for text in heard.texts if "said 'green' of nearly everything" in text] != []


def test_loop__of_fewer_pictures_than_a_batch_says_so():
    with pytest.raises(TrainingError, match=r"There are 3 pictures to learn from.*train\.batch_size"):
        small_loop(pictures=3)


def test_loop__says_which_scores_there_are_when_the_chosen_one_is_not_among_them():
    with pytest.raises(TrainingError, match=r"no score 'iou'.*accuracy, macro_f1, calibration_error"):
        small_loop(course=Course(1, best_by="iou")).run()
