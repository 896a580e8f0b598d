"""Loading bundles: what it keeps, what it keeps waiting, and where it looks."""

import gc
import logging
import shutil
import threading
import weakref
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tests.cli.bundles import damaged_file
from tests.serve.making import alike, base_folder, bundle, photographs
from tests.tiny_models import save_vit

import lumora
from lumora.bundle import names
from lumora.data.manifest import write_manifest
from lumora.models import load_base, places
from lumora.serve import Pool
from lumora.serve.hosting import loading
from lumora.serve.hosting import pool as hosting_pool
from lumora.serve.hosting.catalogue import Catalogue
from lumora.serve.hosting.loading import Origin


@pytest.fixture
def given(tmp_path):
    """A base, as bundles are made on it."""
    return base_folder("vit", tmp_path / "base")


def test_fetch__keeps_nothing_of_a_bundle_that_cannot_be_loaded_but_the_reason(tmp_path, given, monkeypatch):
    modules = []

    def noted(*args, **options):
        base = load_base(*args, **options)
        modules.append(weakref.ref(base.module))
        return base

    bundle(tmp_path / "it", *given)
    save_vit(tmp_path / "base", seed=77)
    monkeypatch.setattr(loading, "load_base", noted)
    pool = Pool([tmp_path / "it"], device="cpu")
    for _ in range(2):
        with pytest.raises(lumora.errors.BundleError, match="fingerprint"):
            pool.get("it")
        gc.collect()
        assert [module() for module in modules] == [None]


def test_fetch__forgets_that_a_bundle_could_not_be_loaded_when_it_can(tmp_path, given, monkeypatch):
    bundle(tmp_path / "bundle", *given)
    pool = Pool([f"it={tmp_path / 'bundle'}"], device="cpu")
    damaged_file(tmp_path)
    with pytest.raises(lumora.errors.BundleError):
        pool.get("it")
    assert pool._failed
    monkeypatch.setattr(hosting_pool, "_REST", 0.0)
    bundle(tmp_path / "bundle", *given)
    assert pool.get("it").name == "it"
    assert pool._failed == {}


def test_fetch__tries_again_at_once_after_errors_that_are_not_the_bundles(tmp_path, given, monkeypatch):
    pool = Pool([bundle(tmp_path / "it", *given)], device="cpu")
    load, failures = pool._loader.load, [OSError("too many open files")]

    def failing(name, origin):
        if failures:
            raise failures.pop()
        return load(name, origin)

    monkeypatch.setattr(pool._loader, "load", failing)
    with pytest.raises(OSError, match="too many open files"):
        pool.get("it")
    assert pool.get("it").name == "it"


def test_fetch__takes_errors_of_libraries_for_the_bundles(tmp_path, given):
    other = bundle(tmp_path / "other", *base_folder("timm", tmp_path / "timm"))
    pool = Pool([other], device="cpu", base=given[0]["name"], allow_other_base=True)
    for load in (pool.get, pool.get, pool.add_anew):
        with pytest.raises(lumora.errors.BundleError, match=r"The bundle .*other cannot be loaded: ValueError: Input"):
            load("other")
    assert pool.failed("other")


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("is_ready", [False, True])
def test_load__puts_bundles_on_the_base_that_is_given_if_they_were_made_on_it(tmp_path, given, method, is_ready):
    folders = [
        bundle(tmp_path / "one", *given, method=method),
        bundle(tmp_path / "other", *base_folder("timm", tmp_path / "timm"), seed=1),
        bundle(tmp_path / "masks", *base_folder("timm-light", tmp_path / "timm"), seed=2),
    ]
    moved = (tmp_path / "base").rename(tmp_path / "moved")
    base = load_base(str(moved)).module if is_ready else str(moved)
    pool = Pool(folders, device="cpu", base=base)
    picture = photographs(1)[0]
    for folder, own in zip(folders, (str(moved), None, None), strict=True):
        alike(pool.predict([(folder.name, picture)])[0], lumora.load(folder, device="cpu", base=own).predict(picture))
    assert [pool.get(folder.name).shared is None for folder in folders] == [is_ready or method == "full", False, False]


def test_load__tells_that_the_base_that_is_given_is_another(tmp_path, given):
    folder = bundle(tmp_path / "it", *given)
    other = save_vit(tmp_path / "other", seed=77)
    pool = Pool([folder], device="cpu", base=str(other))
    assert pool.get("it").name == "it"  # on its own
    shutil.rmtree(other)
    pool.add_anew("it")  # which does not ask for the other any more
    save_vit(other, seed=77)
    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(lumora.errors.BundleError, match=r"fingerprint .*other' has"):
        Pool([folder], device="cpu", base=str(other)).get("it")
    with pytest.raises(lumora.errors.BundleError, match=r"The base of the bundle .*nowhere"):
        Pool([folder], device="cpu", base=str(tmp_path / "nowhere")).get("it")


def with_other_outputs(folder):
    """A bundle as if its model gave something else now than when it was written."""
    path = folder / names.PROOF
    save_file({key: tensor + 1 for key, tensor in load_file(path).items()}, path)
    write_manifest(folder)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_load__refuses_a_bundle_that_gives_something_else_than_after_its_training(tmp_path, given, method):
    folder = bundle(tmp_path / "it", *given, method=method)
    with_other_outputs(folder)
    pool = Pool([folder], device="cpu")
    with pytest.raises(lumora.errors.BundleError, match=r"does not give what it gave .*The outputs differ"):
        pool.get("it")
    assert pool.loaded == []
    assert Pool([folder], device="cpu", allow_other_base=True).get("it").name == "it"


def test_load__says_in_the_log_why_a_bundle_has_a_model_of_its_own(tmp_path, given, caplog):
    pool = Pool([bundle(tmp_path / "it", *given, method="full")], device="cpu")
    with caplog.at_level(logging.INFO, "lumora.serve"):
        why = pool.get("it").why_alone
    assert [record.fields for record in caplog.records] == [{"bundle": "it", "why_alone": why}]
    assert "weights" in why


@pytest.mark.parametrize(("method", "file"), [("head", names.WEIGHTS), ("lora", names.ADAPTER)])
def test_load__does_not_depend_on_the_file_any_more(tmp_path, given, method, file):
    folder = bundle(tmp_path / "it", *given, method=method)
    addition = Pool([folder], device="cpu").get("it").addition
    tensors = [tensor for update in addition.updates.values() for tensor in update.tensors()]
    tensors += [tensor for module in addition.modules.values() for tensor in module.state_dict().values()]
    before = [tensor.clone() for tensor in tensors]
    with (folder / file).open("r+b") as written:
        written.write(bytes((folder / file).stat().st_size))
    assert all(tensor.equal(was) for tensor, was in zip(tensors, before, strict=True))


def test_load__goes_on_for_others_while_a_base_is_fetched(tmp_path, given, monkeypatch):
    far = base_folder("vit", tmp_path / "far")
    folders = [bundle(tmp_path / f"b{i}", *(given if i < 2 else far), seed=i) for i in range(3)]
    pool = Pool(folders, device="cpu")
    pool.get("b0")
    fetching, go_on, weights = threading.Event(), threading.Event(), places.weights

    def slowly(name):
        if name == far[0]["name"]:
            fetching.set()
            assert go_on.wait(600)
        return weights(name)

    monkeypatch.setattr(places, "weights", slowly)
    coming = pool.fetch("b2")
    assert fetching.wait(300)
    try:
        assert pool.fetch("b1").result(100).name == "b1"
        assert not coming.done()
    finally:
        go_on.set()
    assert coming.result(300).name == "b2"


@pytest.mark.parametrize("what", ["bundles", "bases"])
def test_load__goes_on_for_what_lies_here_while_much_comes_over_the_network(tmp_path, given, monkeypatch, what):
    here = bundle(tmp_path / "here", *given)
    far = [bundle(tmp_path / f"far{i}", *base_folder("vit", tmp_path / f"far-base{i}")) for i in range(6)]
    fetching, go_on = [], threading.Event()

    def over_the_network(real):
        def slowly(name, *given):
            if Path(name).name.startswith("far"):
                fetching.append(name)
                assert go_on.wait(600)
            return real(name, *given)

        return slowly

    if what == "bases":
        monkeypatch.setattr(loading, "_is_here", lambda name: not Path(name).name.startswith("far"))
        monkeypatch.setattr(loading, "fetch_base", over_the_network(loading.fetch_base))
        pool = Pool([here, *far], device="cpu")
    else:
        monkeypatch.setattr(
            loading, "repository_folder", over_the_network(lambda name, _: tmp_path / name.partition("/")[2])
        )
        pool = Pool([str(here), *(f"user/{folder.name}" for folder in far)], device="cpu")
    coming = [pool.fetch(folder.name) for folder in far]
    added = pool.add_later("far0", None)
    try:
        while len(fetching) < 4:
            threading.Event().wait(0.01)
        assert pool.fetch("here").result(300).name == "here"
        assert pool.add_later("here", None).result(300).name == "here"
        assert not any(one.done() for one in coming)
    finally:
        go_on.set()
    assert [one.result(300).name for one in coming] == [folder.name for folder in far]
    assert added.result(300).name == "far0"
    assert not pool.busy


def test_close__ends_what_has_not_begun(tmp_path, given, monkeypatch):
    folders = [bundle(tmp_path / f"b{i}", *given, seed=i) for i in range(6)]
    pool, go_on = Pool(folders, device="cpu"), threading.Event()
    load = pool._loader.load
    monkeypatch.setattr(pool._loader, "load", lambda *given: go_on.wait(300) and load(*given))
    coming = [pool.fetch(folder.name) for folder in folders]
    pool.close()
    go_on.set()
    ends = [one.exception(300) for one in coming]
    assert [type(end) for end in ends] == [type(None)] * 4 + [CancelledError] * 2
    assert isinstance(pool.add_later("b5", None).exception(300), RuntimeError)
    assert not pool.busy


def test_add_anew__takes_bundles_that_were_named_singly_from_where_they_came(tmp_path, given):
    folder = bundle(tmp_path / "runs/7/bundle", *given)
    pool = Pool([f"it={folder}"], device="cpu")
    before = pool.get("it").version
    bundle(folder, *given, seed=1)
    after = pool.add_anew("it").version
    assert after != before
    pool.remove("it")
    with pytest.raises(lumora.errors.UnknownAdapterError):
        pool.get("it")
    assert pool.add_anew("it").version == after
    assert pool.get("it").version == after
    with pytest.raises(lumora.errors.UnknownAdapterError):
        pool.add_anew("other")


def test_catalogue__knows_where_a_removed_bundle_came_from(tmp_path, given):
    catalogue = Catalogue(["foxes=user/foxes"])
    catalogue.add("foxes", Origin(repository="user/others", revision="v2"))
    catalogue.remove("foxes")
    assert catalogue.names() == []
    assert catalogue.anew("foxes") == Origin(repository="user/others", revision="v2")
    bundle(tmp_path / "all/foxes", *given)
    served = Catalogue([str(tmp_path / "all")])
    served.add("foxes", Origin(repository="user/foxes"))
    assert served.anew("foxes").folder == tmp_path / "all/foxes"  # what lies in a served folder comes first


def empty_bundles(folder, *called):
    """Folders that look like bundles as long as nobody loads them."""
    for name in called:
        (folder / name).mkdir(parents=True)
        (folder / name / names.ABOUT).write_text("{}")
    return folder


def test_catalogue__refuses_a_folder_with_two_bundles_of_one_name_and_says_what_to_do(tmp_path):
    folder = empty_bundles(tmp_path / "all", "my.cats", "my-cats", "dogs")
    with pytest.raises(lumora.errors.AdapterError, match="would be called 'my-cats'") as refused:
        Catalogue([str(folder)])
    *_, first, second = str(refused.value).split()
    assert Catalogue([first, second]).names() == ["my-cats", "my-cats-2"]
    assert Catalogue([first, second]).find("my-cats-2").folder == folder / "my.cats"


def test_catalogue__takes_a_folder_whose_name_has_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.chdir(empty_bundles(tmp_path, "rank=8", "all=2/dogs", "8"))
    assert Catalogue(["rank=8", "all=2"]).names() == ["rank-8", "dogs"]
    assert Catalogue(["rank=8"]).find("rank-8").folder == tmp_path / "rank=8"
    assert Catalogue(["r=8"]).find("r").folder == tmp_path / "8"


def test_catalogue__tells_of_bundles_that_can_have_no_name(tmp_path, caplog):
    folder = empty_bundles(tmp_path / "all", "猫", "dogs")
    with caplog.at_level(logging.WARNING, "lumora.serve"):
        assert Catalogue([str(folder)]).names() == ["dogs"]
    [told] = [record.getMessage() for record in caplog.records]
    assert "no name can be made of '猫'" in told
    assert Catalogue([str(folder), told.split()[-1]]).names() == ["dogs", "cats"]


def test_catalogue__of_a_folder_whose_bundles_can_have_no_names_says_so(tmp_path):
    with pytest.raises(lumora.errors.BundleError, match=r"no name can be made of '猫'.*Rename that folder"):
        Catalogue([str(empty_bundles(tmp_path / "all", "猫"))])


def test_catalogue__answers_for_names_that_it_knows_while_it_looks_into_folders(tmp_path, given, monkeypatch):
    bundle(tmp_path / "all/one", *given)
    catalogue, looking, go_on = Catalogue([str(tmp_path / "all")]), threading.Event(), threading.Event()

    def slowly(_folder):
        looking.set()
        assert go_on.wait(300)
        return {}

    monkeypatch.setattr("lumora.serve.hosting.catalogue._bundles_in", slowly)

    def ask_for_another():
        with pytest.raises(lumora.errors.UnknownAdapterError):
            catalogue.find("two")

    asking = threading.Thread(target=ask_for_another)
    asking.start()
    assert looking.wait(300)
    answers = []
    other = threading.Thread(target=lambda: answers.append((catalogue.find("one"), catalogue.names())), daemon=True)
    other.start()
    other.join(60)
    go_on.set()
    asking.join()
    assert len(answers) == 1
