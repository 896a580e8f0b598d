"""Many bundles in one process give what each gives alone."""

import copy
import threading

import pytest
import torch
from tests.bundle.making import fill
from tests.serve.making import alike, base_folder, bundle, photographs
from torch import nn

import lumora
from lumora.lora import LoraConfig, get_peft_model
from lumora.serve import Pool
from lumora.serve.hosting import extracting
from lumora.serve.hosting import pool as hosting_pool
from lumora.serve.hosting.addition import Addition
from lumora.serve.hosting.hosted import compute
from lumora.serve.hosting.loading import Origin
from lumora.serve.hosting.places import LinearPlace, Riders
from lumora.serve.hosting.pool import OvertakenError
from lumora.serve.hosting.shared import SharedBase

OPTIONS = (
    {},
    {"rank": 4, "labels": 5, "seed": 1},
    {"norms": False, "seed": 2},
    {"use_dora": True, "seed": 3, "labels": 2},
    {"bias": "lora_only", "seed": 4},
    {"use_dora": True, "bias": "lora_only", "seed": 5},
    {"lora_bias": True, "bias": "lora_only", "use_rslora": True, "seed": 7},
    {"method": "head", "seed": 6, "labels": 4},
)
"""Ways to train bundles that share a base."""


SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("embedded", "segformer", "vit-light", "timm")]


@pytest.fixture(params=["vit", *SLOW])
def bundles(request, tmp_path):
    """Bundles of all ways on one base, by name."""
    given = base_folder(request.param, tmp_path / "base")
    many = OPTIONS if request.param in ("vit", "timm") else OPTIONS[1::2]
    return {f"b{i}": bundle(tmp_path / f"b{i}", *given, **options) for i, options in enumerate(many)}


def test_predict__gives_in_one_batch_what_each_bundle_gives_alone(bundles):
    pool = Pool([f"{name}={folder}" for name, folder in bundles.items()], device="cpu")
    pictures = photographs(2 * len(bundles))
    asked = list(zip([*bundles, *bundles], pictures, strict=True))
    found = pool.predict(asked)
    assert pool.bases == 1
    assert [hosted.why_alone for hosted in pool.loaded] == [None] * len(bundles)
    assert len({pool.get(name).company for name in bundles}) == 1
    alone = {name: lumora.load(folder, device="cpu") for name, folder in bundles.items()}
    for (name, picture), prediction in zip(asked, found, strict=True):
        alike(prediction, alone[name].predict(picture))


def test_predict__logits_agree_to_five_decimals(bundles):
    pool = Pool([f"{name}={folder}" for name, folder in bundles.items()], device="cpu")
    seen = [pool.look(pool.get(name), picture) for name, picture in zip(bundles, photographs(9), strict=False)]
    shared = seen[0].hosted.shared
    pixels = torch.stack([one.hosted.preprocessing.normalise(one.pixels) for one in seen])
    together = shared.logits(pixels, [one.hosted.addition for one in seen])
    assert shared.mixes
    for row, one, name in zip(range(len(seen)), seen, bundles, strict=True):
        model = lumora.load(bundles[name], device="cpu").model
        with torch.no_grad():
            output = model(pixels[row : row + 1])
        logits = getattr(output, "logits", output)
        count = len(one.hosted.about.labels)
        torch.testing.assert_close(together[row : row + 1, :count], logits, atol=1e-5, rtol=1e-5)


def test_load__gives_a_model_of_its_own_to_what_cannot_be_shared(tmp_path):
    given = base_folder("vit", tmp_path / "base")
    folders = {
        "adapted": bundle(tmp_path / "adapted", *given),
        "full": bundle(tmp_path / "full", *given, method="full", seed=1),
        "biases": bundle(tmp_path / "biases", *given, bias="all", norms=False, seed=2),
    }
    pool = Pool([str(folder) for folder in folders.values()], device="cpu")
    pictures = photographs(3)
    for name, picture, found in zip(
        folders, pictures, pool.predict(list(zip(folders, pictures, strict=True))), strict=True
    ):
        alike(found, lumora.load(folders[name], device="cpu").predict(picture))
    assert pool.get("adapted").why_alone is None
    assert "weights" in pool.get("full").why_alone
    assert "bias" in pool.get("biases").why_alone
    assert pool.bases == 1


def test_load__keeps_bundles_of_other_bases_apart(tmp_path):
    one, other = (base_folder(kind, tmp_path / kind) for kind in ("vit", "timm"))
    folders = {"one": bundle(tmp_path / "one", *one), "other": bundle(tmp_path / "other", *other)}
    pool = Pool([str(folder) for folder in folders.values()], device="cpu")
    pictures = photographs(2)
    for name, picture, found in zip(
        folders, pictures, pool.predict(list(zip(folders, pictures, strict=True))), strict=True
    ):
        alike(found, lumora.load(folders[name], device="cpu").predict(picture))
    assert pool.bases == 2


def test_fetch__forgets_the_bundle_that_was_not_asked_for_longest(tmp_path):
    given = base_folder("vit", tmp_path / "base")
    folders = [bundle(tmp_path / f"b{i}", *given, seed=i) for i in range(3)]
    one = Pool(folders[:1], device="cpu")
    size = one.get("b0").bytes
    pool = Pool(folders, device="cpu", memory=2 * size + size // 2)
    for name in ("b0", "b1", "b0", "b2"):
        pool.get(name)
    assert [hosted.name for hosted in pool.loaded] == ["b0", "b2"]
    assert pool.evicted == 1
    assert pool.bytes == 2 * size
    picture = photographs(1)[0]
    alike(pool.predict([("b1", picture)])[0], lumora.load(folders[1], device="cpu").predict(picture))


def test_add__replaces_a_bundle_while_batches_with_the_old_one_are_still_right(tmp_path):
    given = base_folder("vit", tmp_path / "base")
    old, new = (bundle(tmp_path / name, *given, seed=i, labels=3 + i) for i, name in enumerate(("old", "new")))
    pool = Pool([f"it={old}"], device="cpu")
    picture = photographs(1)[0]
    waiting = pool.look(pool.get("it"), picture)
    before = pool.get("it").version
    pool.add("it", new)
    assert pool.get("it").version != before
    alike(compute([waiting])[0], lumora.load(old, device="cpu").predict(picture))
    alike(pool.predict([("it", picture)])[0], lumora.load(new, device="cpu").predict(picture))


def held(pool, monkeypatch):
    """Let bundles that are loaded on demand wait for the event that this gives, just before they are there."""
    go_on, load = threading.Event(), pool._loader.load

    def slowly(name, origin):
        hosted = load(name, origin)
        if threading.current_thread().name.startswith("lumora-loading"):
            assert go_on.wait(300)
        return hosted

    monkeypatch.setattr(pool._loader, "load", slowly)
    return go_on


def test_add__is_not_undone_by_a_loading_that_began_before(tmp_path, monkeypatch):
    given = base_folder("vit", tmp_path / "base")
    old, new = (bundle(tmp_path / name, *given, seed=i, labels=3 + i) for i, name in enumerate(("old", "new")))
    pool = Pool([f"it={old}"], device="cpu")
    go_on = held(pool, monkeypatch)
    coming = pool.fetch("it")
    added = pool.add("it", new)
    go_on.set()
    assert coming.result(300).version != added.version
    assert pool.loaded == [added]
    assert pool.get("it") is added


def test_remove__is_not_undone_by_a_loading_that_began_before(tmp_path, monkeypatch):
    given = base_folder("vit", tmp_path / "base")
    pool = Pool([bundle(tmp_path / "it", *given)], device="cpu")
    go_on = held(pool, monkeypatch)
    coming = pool.fetch("it")
    pool.remove("it")
    with pytest.raises(lumora.errors.UnknownAdapterError):
        pool.fetch("it")
    go_on.set()
    assert coming.result(300).name == "it"
    assert pool.loaded == []


class Held:
    """A pool's loader that loads bundles of these folders only when it is told to."""

    def __init__(self, pool, monkeypatch, *folders):
        self.go_on = {folder: threading.Event() for folder in folders}
        load = pool._loader.load

        def slowly(name, origin):
            assert origin.folder not in self.go_on or self.go_on[origin.folder].wait(300)
            return load(name, origin)

        monkeypatch.setattr(pool._loader, "load", slowly)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (1, 0, 2)])
def test_add__the_newest_counts_in_whatever_order_they_are_loaded(tmp_path, monkeypatch, order):
    given = base_folder("vit", tmp_path / "base")
    folders = [bundle(tmp_path / f"b{i}", *given, seed=i) for i in range(3)]
    pool = Pool(device="cpu")
    held = Held(pool, monkeypatch, *folders)
    coming = [pool.add_later("it", Origin(folder=folder)) for folder in folders]
    best = -1
    for i in order:
        held.go_on[folders[i]].set()
        if i < best:
            with pytest.raises(OvertakenError):
                coming[i].result(300)
        else:
            best = i
            assert coming[i].result(300) is pool.get("it")
    assert pool.get("it") is coming[2].result()
    assert pool._wishes == {}


def test_add__counts_where_the_newer_one_cannot_be_loaded(tmp_path, monkeypatch):
    given = base_folder("vit", tmp_path / "base")
    old = bundle(tmp_path / "old", *given)
    pool = Pool(device="cpu")
    held = Held(pool, monkeypatch, old)
    coming = pool.add_later("it", Origin(folder=old))
    with pytest.raises(lumora.errors.BundleError):
        pool.add_later("it", Origin(folder=tmp_path / "base")).result(300)
    held.go_on[old].set()
    assert coming.result(300) is pool.get("it")
    assert pool._wishes == {}


def test_remove__ends_what_is_being_added_under_a_name_that_is_new(tmp_path, monkeypatch):
    given = base_folder("vit", tmp_path / "base")
    new = bundle(tmp_path / "new", *given)
    pool = Pool(device="cpu")
    held = Held(pool, monkeypatch, new)
    coming = pool.add_later("it", Origin(folder=new))
    pool.remove("it")
    with pytest.raises(lumora.errors.UnknownAdapterError):
        pool.remove("it")
    again = pool.add_later("it", Origin(folder=new))
    held.go_on[new].set()
    with pytest.raises(OvertakenError):
        coming.result(300)
    assert again.result(300) is pool.get("it")


def test_remove__of_what_is_being_added_from_a_served_folder_lasts_until_it_is_added_again(tmp_path, monkeypatch):
    monkeypatch.setattr("lumora.serve.hosting.catalogue._PATIENCE", 0.0)
    given = base_folder("vit", tmp_path / "base")
    bundle(tmp_path / "all/one", *given)
    pool = Pool([tmp_path / "all"], device="cpu")
    late = bundle(tmp_path / "all/late", *given, seed=1)
    held = Held(pool, monkeypatch, late)
    coming = pool.add_later("late", None)
    pool.remove("late")
    held.go_on[late].set()
    with pytest.raises(OvertakenError):
        coming.result(300)
    with pytest.raises(lumora.errors.UnknownAdapterError):
        pool.get("late")
    assert pool.names == ["one"]
    assert pool.add_later("late", None).result(300) is pool.get("late")


def test_add__refuses_a_folder_of_several_bundles(tmp_path):
    given = base_folder("vit", tmp_path / "base")
    for i in range(2):
        bundle(tmp_path / f"all/b{i}", *given, seed=i)
    with pytest.raises(lumora.errors.BundleError, match="holds 2 bundles"):
        Pool(device="cpu").add("it", tmp_path / "all")


def test_load__proves_one_bundle_after_the_other(tmp_path, monkeypatch):
    """What is set for a proof (the precision of numbers) is common to all threads."""
    given = base_folder("vit", tmp_path / "base")
    pool = Pool([bundle(tmp_path / f"b{i}", *given, seed=i) for i in range(2)], device="cpu")
    prove, inside, most, another = SharedBase.prove, [], [], threading.Event()

    def slowly(self, addition, about):
        inside.append(addition)
        most.append(len(inside))
        if len(most) == 1:
            another.wait(1)  # which comes only where nothing keeps it off
        else:
            another.set()
        found = prove(self, addition, about)
        inside.remove(addition)
        return found

    monkeypatch.setattr(SharedBase, "prove", slowly)
    for coming in [pool.fetch("b0"), pool.fetch("b1")]:
        coming.result(300)
    assert most == [1, 1]


def test_places__compute_in_the_precision_of_the_base():
    base = nn.Linear(4, 6).bfloat16()
    layers = []
    for seed in range(2):
        model = get_peft_model(nn.Sequential(copy.deepcopy(base)), LoraConfig(r=2, target_modules=["0"]))
        fill(model, seed)
        layers.append(model.get_base_model()[0])
    additions = [Addition({"0": extracting._update(layer, "default", "0", base, set())}) for layer in layers]
    riders = Riders(sequence_first=False)
    place, x = LinearPlace(base, "0", riders), torch.rand(2, 3, 4).bfloat16()
    with torch.no_grad():
        riders.board(additions)
        together = place(x)
        for i, layer in enumerate(layers):
            riders.board([additions[i]])
            expected = layer(x[i : i + 1])
            torch.testing.assert_close(together[i : i + 1], expected, atol=0.05, rtol=0.05)
            torch.testing.assert_close(place(x[i : i + 1]), expected, atol=0.05, rtol=0.05)


def test_remove__forgets_a_bundle_and_its_base(tmp_path):
    given = base_folder("vit", tmp_path / "base")
    pool = Pool([bundle(tmp_path / "it", *given)], device="cpu")
    pool.get("it")
    pool.remove("it")
    assert (pool.names, pool.loaded, pool.bases) == ([], [], 0)
    with pytest.raises(lumora.errors.UnknownAdapterError, match="There is no bundle of this name; there are none"):
        pool.fetch("it")


def test_fetch__finds_bundles_that_came_into_a_folder_later(tmp_path, monkeypatch):
    monkeypatch.setattr("lumora.serve.hosting.catalogue._PATIENCE", 0.0)
    given = base_folder("vit", tmp_path / "base")
    bundle(tmp_path / "all/one", *given)
    pool = Pool([tmp_path / "all"], device="cpu")
    bundle(tmp_path / "all/two", *given, seed=1)
    assert pool.names == ["one"]
    assert pool.get("two").name == "two"
    pool.remove("two")
    with pytest.raises(lumora.errors.UnknownAdapterError):
        pool.get("two")
    assert pool.add_anew("two").name == "two"


@pytest.mark.parametrize("name", ["../all/one", "one/../one", "/etc/passwd", "all/one", "", ".", "..", "one\0"])
def test_fetch__never_takes_a_name_for_a_path(tmp_path, name, monkeypatch):
    given = base_folder("vit", tmp_path / "base")
    bundle(tmp_path / "all/one", *given)
    monkeypatch.chdir(tmp_path)
    pool = Pool([tmp_path / "all"], device="cpu")
    with pytest.raises(lumora.errors.UnknownAdapterError):
        pool.fetch(name)


def test_load__refuses_a_damaged_bundle_and_one_for_another_base(tmp_path):
    from tests.cli.bundles import damaged_file
    from tests.tiny_models import save_vit

    given = base_folder("vit", tmp_path / "base")
    bundle(tmp_path / "bundle", *given)
    pool = Pool([f"it={tmp_path / 'bundle'}"], device="cpu")
    damaged_file(tmp_path)
    with pytest.raises(lumora.errors.BundleError, match="not as it was written"):
        pool.get("it")
    bundle(tmp_path / "bundle", *given)
    save_vit(tmp_path / "base", seed=77)
    with pytest.raises(lumora.errors.BundleError, match="fingerprint"):
        Pool([f"it={tmp_path / 'bundle'}"], device="cpu").get("it")


def test_fetch__tries_a_bundle_that_cannot_be_loaded_again_only_after_a_while(tmp_path, monkeypatch):
    from tests.cli.bundles import damaged_file

    given = base_folder("vit", tmp_path / "base")
    bundle(tmp_path / "bundle", *given)
    pool = Pool([f"it={tmp_path / 'bundle'}"], device="cpu")
    damaged_file(tmp_path)
    for mended in (False, True):  # nobody looks at the files a second time
        with pytest.raises(lumora.errors.BundleError, match="not as it was written"):
            pool.get("it")
        if not mended:
            bundle(tmp_path / "bundle", *given)
    monkeypatch.setattr(hosting_pool, "_REST", 0.0)
    assert pool.get("it").name == "it"


def test_add__loads_what_could_not_be_loaded_at_once(tmp_path):
    from tests.cli.bundles import damaged_file

    given = base_folder("vit", tmp_path / "base")
    bundle(tmp_path / "all/one", *given)
    bundle(tmp_path / "bundle", *given)
    pool = Pool([tmp_path / "all", f"it={tmp_path / 'bundle'}"], device="cpu")
    damaged_file(tmp_path)
    with pytest.raises(lumora.errors.BundleError):
        pool.get("it")
    bundle(tmp_path / "bundle", *given)
    pool.add("it", tmp_path / "bundle")
    assert pool.get("it").name == "it"


def test_load__keeps_the_weights_of_a_base_once_for_labels_and_for_masks(tmp_path):
    vit = base_folder("vit", tmp_path / "base")
    labels = bundle(tmp_path / "labels", *vit)
    masks = bundle(tmp_path / "masks", vit[0], "segmentation", vit[2], seed=1)
    pool = Pool([labels, masks], device="cpu")
    one, other = (pool.get(name).shared for name in ("labels", "masks"))
    assert pool.bases == 2
    assert one.weights
    assert [id(tensor) for _, tensor in one.weights] == [id(tensor) for _, tensor in other.weights]
    picture = photographs(1)[0]
    for folder in (labels, masks):
        alike(pool.predict([(folder.name, picture)])[0], lumora.load(folder, device="cpu").predict(picture))
