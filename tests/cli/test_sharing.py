"""`lumora push` and `lumora pull`, as processes, against a Hub of our own."""

import json
import pickle

import peft
import pytest
import torch
from tests.bundle.making import LABELS, logits
from tests.cli.bundles import Trap, damaged_file, run
from tests.data.making import put
from tests.hub_server import TOKEN, serving
from tests.predict.making import bundle_of

import lumora as library
from lumora.data.durable import check_folder
from lumora.models import load_base

pytestmark = pytest.mark.slow  # each command is a new process, and starts others

REPOSITORY = "user/foxes"


@pytest.fixture
def hub():
    with serving() as hub:
        yield hub


@pytest.fixture
def online(hub, tmp_path):
    """Runs the program as a user who is logged in to this Hub; `token=""` as anybody."""

    def call(*arguments, code=0, token=TOKEN, home="home"):
        return run(
            *arguments,
            code=code,
            HF_ENDPOINT=hub.url,
            HF_HOME=str(tmp_path / home),
            HF_TOKEN=token,
            HF_HUB_DISABLE_XET="1",
            HF_HUB_DISABLE_TELEMETRY="1",
            NO_PROXY="127.0.0.1,localhost",
            no_proxy="127.0.0.1,localhost",
        )

    return call


def test_push__then_pull_elsewhere_gives_the_same_model(hub, online, tmp_path, monkeypatch):
    folder, model, about = bundle_of("vit", tmp_path)
    (folder / "training_args.bin").write_bytes(pickle.dumps(Trap(tmp_path / "opened")))
    sent = online("push", folder, REPOSITORY, "--private")
    assert f"sent to:           {hub.url}/{REPOSITORY}/commit/" in sent.stdout
    assert sent.stderr == ""  # nobody looks: no bars
    there = hub.repositories[REPOSITORY]
    assert there.private
    assert "training_args.bin" not in there.files()
    assert f'lumora.load("{REPOSITORY}")' in there.files()["README.md"].decode()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    value = json.loads(online("pull", REPOSITORY, "--json", home="another home").stdout)
    here = tmp_path / "elsewhere/foxes"
    assert (value["out"], value["labels"]) == ("foxes", list(LABELS))
    assert check_folder(here) == []
    loaded = library.load(here, device="cpu")
    assert loaded.about == about
    torch.testing.assert_close(logits(loaded.model, 32), logits(model, 32))
    base = load_base(about.base.name, task=about.task, labels=LABELS).module
    theirs = peft.PeftModel.from_pretrained(base, here).eval()
    torch.testing.assert_close(logits(theirs, 32), logits(model, 32), rtol=1e-4, atol=1e-4)
    assert not (tmp_path / "opened").exists()


def test_pull__of_a_private_repository_needs_a_token(hub, online, tmp_path):
    folder, _, _ = bundle_of("vit", tmp_path)
    hub.add(REPOSITORY, folder, private=True)
    refused = online("pull", REPOSITORY, "--out", tmp_path / "here", code=1, token="")
    assert refused.stdout == ""
    assert "if it is private, give a token that may read it" in refused.stderr
    assert not (tmp_path / "here").exists()
    assert online("pull", REPOSITORY, "--out", tmp_path / "here", "--quiet").stdout == f"{tmp_path / 'here'}\n"


def test_push__without_the_right_to_it_sends_nothing(hub, online, tmp_path):
    folder, _, _ = bundle_of("vit", tmp_path)
    for repository, token in ((REPOSITORY, ""), (REPOSITORY, "hf_wrong"), ("others/foxes", TOKEN)):
        refused = online("push", folder, repository, code=1, token=token)
        assert refused.stdout == ""
        assert "Nothing was sent to" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert not hub.repositories


def test_revisions__are_sent_fetched_and_used(hub, online, tmp_path):
    folder, model, about = bundle_of("vit", tmp_path)
    old = hub.add(REPOSITORY, folder)
    with torch.no_grad():
        model.get_submodule("base_model.model.classifier").modules_to_save["default"].bias += 5
    from lumora.bundle import write

    write(tmp_path / "newer", model, about)
    online("push", tmp_path / "newer", REPOSITORY, "--revision", "draft")
    assert hub.repositories[REPOSITORY].branches["main"] == old
    picture = put(tmp_path / "one.png")
    said = {}
    for revision in ("main", "draft", old):
        out = tmp_path / f"out-{revision}"
        online("predict", REPOSITORY, picture, "--out", out, "--no-overlays", "--revision", revision)
        said[revision] = json.loads((out / "predictions.jsonl").read_text())["probabilities"]
    assert said["main"] == said[old] != said["draft"]
    online("pull", REPOSITORY, "--revision", "draft", "--out", tmp_path / "here")
    assert library.load(tmp_path / "here").predict(picture).probabilities.tolist() == pytest.approx(
        [said["draft"][name] for name in LABELS], abs=1e-5
    )
    missing = online("pull", REPOSITORY, "--revision", "nothing", "--out", tmp_path / "there", code=1)
    assert "has no revision 'nothing'" in missing.stderr


def test_inspect__a_repository_fetches_no_weights_of_models(hub, online, tmp_path):
    folder, _, about = bundle_of("vit", tmp_path)
    hub.add(REPOSITORY, folder)
    seen = json.loads(online("inspect", REPOSITORY, "--json").stdout)
    assert (seen["task"], seen["whole"], seen["base"]["name"]) == (about.task, None, about.base.name)
    assert any(group["rank"] == 2 for group in seen["groups"])
    fetched = {path.name for path in (tmp_path / "home").rglob("snapshots/*/*")}
    assert fetched == {"lumora.json", "adapter_config.json", "adapter_model.safetensors"}


def test_merge__takes_a_repository(hub, online, tmp_path):
    folder, model, _ = bundle_of("vit", tmp_path)
    hub.add(REPOSITORY, folder)
    online("merge", REPOSITORY, "--out", tmp_path / "plain")
    import transformers

    theirs = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "plain").eval()
    torch.testing.assert_close(logits(theirs, 32), logits(model, 32), rtol=1e-4, atol=1e-4)


def test_pull__loses_nothing_that_is_there(hub, online, tmp_path):
    folder, _, _ = bundle_of("vit", tmp_path)
    hub.add(REPOSITORY, folder)
    refused = online("pull", REPOSITORY, "--out", folder, code=2)
    assert "is there already" in " ".join(refused.stderr.split())
    online("pull", REPOSITORY, "--out", folder, "--force")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    assert "holds other things" in online("pull", REPOSITORY, "--out", mine, "--force", code=2).stderr
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]


def test_pull__keeps_nothing_of_a_damaged_bundle(hub, online, tmp_path):
    folder, _, _ = bundle_of("vit", tmp_path)
    damaged_file(tmp_path)
    hub.add(REPOSITORY, folder)
    refused = online("pull", REPOSITORY, "--out", tmp_path / "here", code=1)
    assert refused.stdout == ""
    assert "adapter_model.safetensors is damaged" in refused.stderr
    assert not (tmp_path / "here").exists()


def test_pull__a_folder_of_the_same_name_is_not_taken_for_the_repository(hub, online, tmp_path, monkeypatch):
    folder, _, _ = bundle_of("vit", tmp_path)
    hub.add(REPOSITORY, folder)
    monkeypatch.chdir(tmp_path)
    online("pull", REPOSITORY, "--out", REPOSITORY)
    online("pull", REPOSITORY, "--out", REPOSITORY, "--force")
    online("push", REPOSITORY, REPOSITORY)
    assert check_folder(tmp_path / REPOSITORY) == []
