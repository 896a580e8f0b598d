"""Our `Trainer` evaluates without keeping predictions, and finds out wrong evaluations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from sklearn import metrics as sk
from tests.integrations.evaluated import CLASSES, Classifier, Pictures, by_hand, trainer
from transformers import TrainerCallback

from lumora.data import Labels
from lumora.errors import MetricError, SelfTestError
from lumora.tasks import Classification

LABELS = Labels(tuple(f"class {i}" for i in range(CLASSES)))
TASK = Classification(LABELS)


def accuracy(evaluated):
    return {"accuracy": sk.accuracy_score(evaluated.label_ids, evaluated.predictions.argmax(1))}


def test_evaluate__counts_what_a_callable_computes_from_all_logits(tmp_path):
    model, data = Classifier(), Pictures(22)
    streamed = trainer(model, data, TASK.new_metrics(), tmp_path).evaluate()
    gathered = trainer(model, data, accuracy, tmp_path).evaluate()
    assert streamed["eval_accuracy"] == gathered["eval_accuracy"]
    assert streamed["eval_loss"] == gathered["eval_loss"]
    expected = by_hand(model, data, TASK.new_metrics())
    assert {name: streamed[f"eval_{name}"] for name in expected} == pytest.approx(dict(expected), abs=1e-6)


def test_evaluate__again_starts_from_nothing(tmp_path):
    ours = trainer(Classifier(), Pictures(9), TASK.new_metrics(), tmp_path)
    first, again = ours.evaluate(), ours.evaluate(metric_key_prefix="again")
    assert first["eval_macro_f1"] == again["again_macro_f1"]


def test_evaluate__several_data_sets(tmp_path):
    data = {"few": Pictures(5), "many": Pictures(12)}
    found = trainer(Classifier(), data, TASK.new_metrics(), tmp_path).evaluate()
    for name, some in data.items():
        expected = by_hand(Classifier(), some, TASK.new_metrics())
        assert found[f"eval_{name}_accuracy"] == expected["accuracy"]


def test_evaluate__keeps_no_predictions(tmp_path):
    ours = trainer(Classifier(), Pictures(9), TASK.new_metrics(), tmp_path)
    output = ours.evaluation_loop(ours.get_eval_dataloader(), "Evaluation")
    assert output.predictions is None and output.label_ids is None
    assert output.num_samples == 9


def test_predict__still_gives_predictions(tmp_path):
    model, data = Classifier(), Pictures(9)
    ours = trainer(model, data, TASK.new_metrics(), tmp_path)
    output = ours.predict(data)
    assert output.predictions.shape == (9, CLASSES)
    assert output.metrics["test_accuracy"] == by_hand(model, data, TASK.new_metrics())["accuracy"]
    assert ours.evaluate()["eval_accuracy"] == output.metrics["test_accuracy"]


@pytest.mark.parametrize("in_batches", [False, True])
def test_predict__counts_nothing_of_an_evaluation_before(tmp_path, in_batches):
    model, few = Classifier(), Pictures(9)
    ours = trainer(model, Pictures(22), TASK.new_metrics(), tmp_path, batch_eval_metrics=in_batches)
    ours.evaluate()
    expected = by_hand(model, few, TASK.new_metrics())
    assert ours.predict(few).metrics["test_accuracy"] == expected["accuracy"]


@pytest.mark.parametrize("in_batches", [False, True])
@pytest.mark.parametrize("stock", [False, True])
def test_metrics__work_in_the_stock_trainer_and_with_batch_eval_metrics(tmp_path, in_batches, stock):
    model, data = Classifier(), Pictures(9)
    ours = trainer(model, data, TASK.new_metrics(), tmp_path, batch_eval_metrics=in_batches)
    if stock:
        ours = transformers.Trainer(model, ours.args, eval_dataset=data, compute_metrics=TASK.new_metrics())
    expected = by_hand(model, data, TASK.new_metrics())["accuracy"]
    assert [ours.evaluate()["eval_accuracy"] for _ in range(2)] == [expected, expected]


def test_evaluate__pictures_without_labels_say_so(tmp_path):
    ours = trainer(Classifier(), Pictures(3), TASK.new_metrics(), tmp_path)
    unlabelled = [{"pixel_values": torch.zeros(3, 2, 2), "labels": torch.tensor(-100)}]
    with pytest.raises(MetricError, match="No picture with a label was evaluated"):
        ours.evaluate(unlabelled)


@pytest.mark.parametrize("metrics", [TASK.new_metrics(), accuracy], ids=["streamed", "callable"])
@pytest.mark.parametrize("pictures", [1, 3, 50])
def test_self_test__passes_a_right_evaluation(tmp_path, metrics, pictures):
    trainer(Classifier(), Pictures(9), metrics, tmp_path).self_test(TASK, pictures=pictures)


@pytest.mark.parametrize(
    "data", [Pictures(5), [Pictures(5)[i] for i in range(5)], {"a": Pictures(3), "b": Pictures(2)}]
)
def test_self_test__takes_whatever_a_trainer_takes(tmp_path, data):
    trainer(Classifier(), data, TASK.new_metrics(), tmp_path).self_test(TASK)


def test_self_test__leaves_the_trainer_as_it_was(tmp_path):
    heard = []

    class Ears(TrainerCallback):
        def on_prediction_step(self, *args, **kwargs):
            heard.append("step")

    model = Classifier()
    ours = trainer(model, Pictures(9), TASK.new_metrics(), tmp_path)
    ours.add_callback(Ears)
    ours.self_test(TASK)
    assert not heard
    assert ours.evaluate()["eval_accuracy"] == by_hand(model, Pictures(9), TASK.new_metrics())["accuracy"]
    assert len(heard) == 3


def test_self_test__finds_labels_that_are_one_off(tmp_path):
    def shifted(evaluated):
        return {"accuracy": np.mean(evaluated.label_ids - 1 == evaluated.predictions.argmax(1))}

    data = [{"pixel_values": torch.zeros(3, 2, 2), "labels": torch.tensor(i)} for i in (1, 4, 2)]
    with pytest.raises(SelfTestError, match=r"accuracy 0 instead of 1\..* ids that are one too low has 1 on average"):
        trainer(Classifier(), data, shifted, tmp_path).self_test(TASK, pictures=3)


def test_self_test__needs_something_to_test(tmp_path):
    with pytest.raises(MetricError, match="no compute_metrics"):
        trainer(Classifier(), Pictures(9), None, tmp_path).self_test(TASK)
