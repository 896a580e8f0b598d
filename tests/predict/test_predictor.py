import gc
import json
import warnings
import weakref

import numpy as np
import pytest
import torch
from PIL import Image
from tests.bundle.making import KINDS, LABELS, about_of, adapted, pyramid, ready_base, trained_whole
from tests.data.making import put
from tests.predict.making import arrays, bundle_of, check, expected, tensor

import lumora
from lumora.bundle import write
from lumora.errors import BundleError, DataError, InputError, LumoraWarning
from lumora.predict import plain
from lumora.predict.pictures import AtHand
from lumora.tasks import LabelPrediction


@pytest.mark.parametrize("kind", KINDS)
def test_predict__is_what_the_model_gives(kind, tmp_path):
    folder, model, about = bundle_of(kind, tmp_path)
    predictor = lumora.load(folder, device="cpu")
    given = arrays()
    for prediction, array in zip(predictor.predict(given, batch_size=3), given, strict=True):
        check(prediction, model, about, tensor(array))
    check(predictor.predict(given[0]), model, about, tensor(given[0]))


@pytest.mark.parametrize("method", ["head", "full"])
def test_predict__without_adapters(method, tmp_path):
    base = ready_base()
    model, about = trained_whole(base, only_head=method == "head"), about_of(base, 64, method)
    write(tmp_path / "bundle", model, about)
    predictor = lumora.load(tmp_path / "bundle", base=pyramid(), device="cpu")
    check(predictor.predict(arrays()[1]), model, about, tensor(arrays()[1]))


def test_predict__does_not_depend_on_the_batch(classifier, segmenter):
    given = arrays()
    for predictor in (classifier, segmenter):
        alone = [predictor.predict(one) for one in given]
        for batch_size in (1, 2, 5, 50):
            together = predictor.predict(given[::-1], batch_size=batch_size)[::-1]
            for one, other in zip(alone, together, strict=True):
                if predictor is classifier:
                    torch.testing.assert_close(one.probabilities, other.probabilities, atol=1e-6, rtol=1e-5)
                else:
                    assert (one.mask == other.mask).float().mean() > 0.999  # rounding, where two classes are equal


def test_predict__is_the_same_inside_of_autocast_and_with_gradients(classifier):
    one = classifier.predict(arrays()[0]).probabilities
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.enable_grad():
        other = classifier.predict(arrays()[0]).probabilities
    assert one.equal(other)
    assert not other.requires_grad


def test_predict__every_kind_of_picture_alike(classifier, tmp_path):
    array = arrays()[0]
    path = put(tmp_path / "one.png", array)
    kinds = {
        "path": path,
        "text": str(path),
        "bytes": path.read_bytes(),
        "pillow": Image.fromarray(array),
        "opened": Image.open(path),
        "array": array,
        "backwards in memory": np.ascontiguousarray(array[::-1])[::-1],
        "tensor": tensor(array),
    }
    wanted = classifier.predict(array).probabilities
    for name, prediction in zip(kinds, classifier.predict(list(kinds.values())), strict=True):
        assert prediction.probabilities.allclose(wanted, atol=1e-6), name
    assert classifier.predict(one for one in [array, array])[1].probabilities.allclose(wanted, atol=1e-6)
    assert isinstance(classifier.predict(path), LabelPrediction)
    assert classifier.predict([]) == []


def test_predict__masks_of_pictures_that_are_turned_lie_as_the_picture_is_seen(segmenter, tmp_path):
    array = arrays()[1]
    exif = Image.Exif()
    exif[0x0112] = 6  # to be seen, it is turned a quarter to the right
    stored = put(tmp_path / "turned.png", np.ascontiguousarray(np.rot90(array)), exif=exif)
    upright = segmenter.predict(array).mask
    assert segmenter.predict(stored).mask.equal(upright)
    assert segmenter.predict(Image.open(stored)).mask.equal(upright)
    assert upright.shape == array.shape[:2]


def test_predict__a_folder(classifier, tmp_path):
    files = [put(tmp_path / "pictures" / name) for name in ("b.png", "deep/c.jpg", ".hidden/d.png", "a.png")]
    (tmp_path / "pictures/notes.txt").write_text("no picture")
    predictions = classifier.predict(tmp_path / "pictures")
    streamed = dict(classifier.stream(str(tmp_path / "pictures")))
    assert list(streamed) == [str(files[i]) for i in (3, 0, 1)]
    for prediction, key in zip(predictions, streamed, strict=True):
        assert prediction.probabilities.allclose(classifier.predict(key).probabilities, atol=1e-6)
    assert len(classifier.predict([tmp_path / "pictures", files[0]])) == 4


# --- pictures that cannot be read -------------------------------------------------------------------------------------


@pytest.fixture
def mixed(tmp_path):
    """Five pictures, of which the second and fourth cannot be read."""
    paths = [put(tmp_path / f"{i}.png") for i in range(5)]
    paths[1].write_bytes(paths[1].read_bytes()[:60])
    paths[3].unlink()
    return paths


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_predict__names_all_that_cannot_be_read(classifier, mixed, batch_size):
    with pytest.raises(DataError) as told:
        classifier.predict(mixed, batch_size=batch_size)
    assert "2 of 5 pictures cannot be used" in str(told.value)
    assert f"{mixed[1]} " in str(told.value)
    assert f"There is no file or folder {mixed[3]}." in str(told.value)


def test_predict__predicts_nothing_more_once_one_cannot_be_read(classifier, mixed):
    runs = []
    classifier.model.register_forward_hook(lambda *_: runs.append(1))
    with pytest.raises(DataError):
        classifier.predict(mixed, batch_size=1)
    assert len(runs) == 1


def test_predict__leaves_a_gap_for_those_that_are_skipped(classifier, mixed):
    with pytest.warns(LumoraWarning) as told:
        predictions = classifier.predict(mixed, batch_size=2, skip_bad=True)
    assert [prediction is None for prediction in predictions] == [False, True, False, True, False]
    assert predictions[4].probabilities.allclose(classifier.predict(mixed[4]).probabilities, atol=1e-6)
    messages = [str(one.message) for one in told]
    assert len(messages) == 2
    assert all(f"{path}" in message for path, message in zip((mixed[1], mixed[3]), messages, strict=True))


def test_predict__one_that_cannot_be_read_is_told_as_it_is(classifier, mixed):
    with pytest.raises(DataError, match=f"^There is no file or folder {mixed[3]}"):
        classifier.predict(mixed[3])
    with pytest.warns(LumoraWarning, match="Skipped: There is no file"):
        assert classifier.predict(mixed[3], skip_bad=True) is None


def test_predict__names_no_more_than_can_be_read(classifier, tmp_path):
    with pytest.raises(DataError) as told:
        classifier.predict([tmp_path / f"missing{i}.png" for i in range(1234)], batch_size=100)
    assert "1,234 of 1,234 pictures" in str(told.value)
    assert str(told.value).endswith("and 1,214 more")


def test_stream__gives_all_others_before_it_names_those_that_cannot_be_read(classifier, mixed):
    given = []
    with pytest.raises(DataError, match="2 of 5 pictures"):
        for key, _ in classifier.stream(mixed, batch_size=2):
            given.append(key)
    assert given == [str(mixed[i]) for i in (0, 2, 4)]
    with pytest.warns(LumoraWarning):
        assert [key for key, _ in classifier.stream(mixed, skip_bad=True)] == given


def test_predict__larger_pictures_than_the_limit_are_refused(tmp_path):
    from lumora.data import Limits

    folder, _, _ = bundle_of("vit", tmp_path)
    path = put(tmp_path / "one.png", arrays([(30, 40)])[0])
    assert lumora.load(folder, limits=Limits(1200)).predict(path)
    with pytest.raises(DataError, match="1,200 pixels, and the limit is 1,199"):
        lumora.load(folder, limits=Limits(1199)).predict(path)


# --- streams ----------------------------------------------------------------------------------------------------------


def test_stream__holds_three_batches_at_most(classifier):
    taken = 0

    def frames():
        nonlocal taken
        while True:  # a camera never ends
            taken += 1
            yield arrays([(24, 24)])[0]

    stream = classifier.stream(frames(), batch_size=4)
    for done in range(1, 60):
        next(stream)
        assert taken <= done + 3 * 4
    stream.close()


@pytest.mark.slow
def test_stream__lets_pictures_go(classifier):
    frames = (np.full((16, 16, 3), i, np.uint8) for i in range(60))
    held = []
    for _ in classifier.stream(frames, batch_size=2):
        held.append(sum(type(one) is AtHand for one in gc.get_objects()))
    assert len(held) == 60
    assert max(held) <= 3 * 2


def test_stream__a_buffer_may_be_filled_again(classifier):
    wanted = [classifier.predict(array).probabilities for array in arrays([(20, 20)] * 6)]

    def frames():
        buffer = np.empty((20, 20, 3), np.uint8)
        for array in arrays([(20, 20)] * 6):
            buffer[:] = array
            yield buffer
            buffer[:] = 0

    for (key, prediction), right, number in zip(
        classifier.stream(frames(), batch_size=3), wanted, range(6), strict=True
    ):
        assert key == f"picture {number}"
        assert prediction.probabilities.allclose(right, atol=1e-6)


def test_stream__tensors_may_be_filled_again(classifier):
    def frames():
        buffer = torch.empty(3, 20, 20, dtype=torch.uint8)
        for value in (0, 200):
            yield buffer.fill_(value)
            buffer.zero_()

    dark, light = (prediction.probabilities for _, prediction in classifier.stream(frames()))
    assert not dark.allclose(light, atol=1e-6)


def test_stream__errors_of_what_gives_the_pictures_are_its_own(classifier):
    def frames():
        yield arrays()[0]
        raise ZeroDivisionError("the camera is gone")

    with pytest.raises(ZeroDivisionError, match="the camera is gone"):
        list(classifier.stream(frames()))


@pytest.mark.parametrize("batch_size", [0, -1])
def test_predict__batches_have_a_size(classifier, batch_size):
    for ask in (classifier.predict, lambda *given: list(classifier.stream(*given))):
        with pytest.raises(InputError, match=f"batch_size is {batch_size}; it must be at least 1"):
            ask(arrays(), batch_size)


class Held:
    """Something large that reading a picture takes."""


def test_stream__lets_go_of_what_pictures_took_that_cannot_be_read(classifier):
    alive = weakref.WeakSet()

    class Broken:
        """A picture that fails with all its bytes at hand."""

        key = "broken"

        def picture(self):
            taken = Held()
            alive.add(taken)
            try:
                raise ValueError(f"{taken} is of no use")
            except ValueError as error:
                raise DataError("It is broken.") from error

    results = classifier.stream([Broken() for _ in range(30)] + [arrays()[0]], batch_size=2)
    next(results)
    assert len(alive) == 0
    with pytest.raises(DataError, match="30 of 31"):
        next(results)


# --- what a predictor says of itself ----------------------------------------------------------------------------------


def test_predictor__knows_what_it_is(segmenter, tagger, tmp_path):
    assert (segmenter.task, tagger.task) == ("segmentation", "multilabel")
    assert segmenter.labels.names == LABELS
    assert segmenter.about.size == (64, 64)
    assert segmenter.device == torch.device("cpu")
    assert not segmenter.model.training


def test_load__says_what_is_wrong(tmp_path):
    base = ready_base()
    write(tmp_path / "bundle", adapted(base), about_of(base, 64))
    with pytest.raises(BundleError, match=r"give it again: base=model"):
        lumora.load(tmp_path / "bundle")
    other = pyramid()
    with torch.no_grad():
        other.stem[0].weight += 1
    with pytest.raises(BundleError, match="allow_other_base=True"):
        lumora.load(tmp_path / "bundle", base=other)
    assert lumora.load(tmp_path / "bundle", base=other, allow_other_base=True).predict(arrays()[0])


def test_draw__shows_the_picture(classifier, segmenter, tmp_path):
    array = arrays()[0]
    path = put(tmp_path / "one.png", array)
    captioned = classifier.draw(path, classifier.predict(path))
    height, width = array.shape[:2]
    left = (captioned.shape[2] - width) // 2
    assert captioned[:, :height, left : left + width].equal(tensor(array))
    assert captioned.shape[1] > height
    drawn = segmenter.draw(array, segmenter.predict(array))
    mask = segmenter.predict(array).mask.long()
    palette = torch.tensor(segmenter.labels.palette())[mask].permute(2, 0, 1)
    mixed = (tensor(array).float() + palette) / 2
    assert (drawn[:, :height, :width].float() - mixed).abs().max() <= 0.5
    with pytest.raises(InputError, match="The mask is 60 x 40 pixels and the picture 70 x 90"):
        segmenter.draw(arrays()[1], segmenter.predict(array))
    with pytest.raises(InputError, match="one picture"):
        segmenter.draw([array], segmenter.predict(array))


def test_plain__is_json(classifier, segmenter, tagger):
    array = arrays()[0]
    value = json.loads(json.dumps(plain(classifier.predict(array), classifier.labels)))
    likely = dict(zip(LABELS, classifier.predict(array).probabilities.tolist(), strict=True))
    assert value == {"labels": [max(likely, key=likely.get)], "probabilities": likely}
    assert list(value["probabilities"].values()) == sorted(likely.values(), reverse=True)
    assert len(plain(classifier.predict(array), classifier.labels, most=2)["probabilities"]) == 2
    several = plain(tagger.predict(array), tagger.labels)
    assert set(several["labels"]) == {name for name, p in several["probabilities"].items() if p >= 0.4}
    value = json.loads(json.dumps(plain(segmenter.predict(array), segmenter.labels)))
    ids, counts = np.unique(segmenter.predict(array).mask.numpy(), return_counts=True)
    assert (value["height"], value["width"]) == array.shape[:2]
    assert {one["label"]: one["pixels"] for one in value["classes"]} == {
        LABELS[i]: int(count) for i, count in zip(ids, counts, strict=True)
    }
    assert sum(one["share"] for one in value["classes"]) == pytest.approx(1)


def test_lumora__loads_lazily():
    import subprocess
    import sys

    program = "import sys, lumora; print('torch' in sys.modules, lumora.load.__module__, lumora.Predictor.__name__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "lumora.predict.predictor", "Predictor"]


def test_expected__is_no_constant(tmp_path):
    """The comparisons above would say nothing if all predictions were alike."""
    _, model, about = bundle_of("vit", tmp_path)
    one, other = (expected(model, about, tensor(array)) for array in arrays()[:2])
    assert not one.allclose(other, atol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert one.sum() == pytest.approx(1)
