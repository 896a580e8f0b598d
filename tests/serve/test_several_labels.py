"""A bundle of pictures that have several labels, over HTTP; and kinds of pictures that are switched off."""

import base64
import json

import pytest
from tests.serve.asking import asked
from tests.serve.making import base_folder, bundle
from tests.serve.pictures import a_picture

import lumora
from lumora.bundle import names
from lumora.data.manifest import write_manifest
from lumora.serve import Pool
from lumora.serve.http.app import build
from lumora.serve.http.settings import Settings

PICTURES = [a_picture(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A bundle whose threshold lies between the probabilities of its first picture: two of five labels are chosen."""
    home = tmp_path_factory.mktemp("several")
    given, _, side = base_folder("vit", home / "base")
    made = bundle(home / "tags", given, "multilabel", side, labels=5)
    likely = sorted(lumora.load(made, device="cpu").predict(PICTURES[0]).probabilities.tolist())
    about = json.loads((made / names.ABOUT).read_text(encoding="utf-8"))
    assert "threshold" in about
    about["threshold"] = (likely[2] + likely[3]) / 2
    (made / names.ABOUT).write_text(json.dumps(about), encoding="utf-8")
    write_manifest(made)
    return made


@pytest.fixture(scope="module")
def right(folder):
    """What the bundle says without a server, and its labels."""
    loaded = lumora.load(folder, device="cpu")
    found = loaded.predict(PICTURES)
    assert len(found[0].chosen) == 2
    return found, loaded.labels.names


def test_predict__gives_the_labels_that_are_likelier_than_the_threshold(folder, right):
    found, labels = right

    async def ask(client):
        kind = {"Content-Type": "image/png"}
        return [(await client.post("/predict/tags?top=1", content=one, headers=kind)).json() for one in PICTURES]

    gate = build(Pool([folder], device="cpu"), Settings(decoders=1))
    for answer, one in zip(asked(gate, ask, with_decoders=True), found, strict=True):
        assert answer["task"] == "multilabel"
        assert answer["labels"] == [labels[i] for i in one.chosen]
        assert list(answer["probabilities"])[: len(one.chosen)] == answer["labels"]
        for label, probability in answer["probabilities"].items():
            assert probability == pytest.approx(float(one.probabilities[labels.index(label)]), abs=1e-5)


def test_inference__says_of_every_label_whether_it_is_chosen(folder, right):
    found, labels = right
    tensor = {"name": "image", "datatype": "BYTES", "shape": [3]}
    tensor["data"] = [base64.b64encode(one).decode() for one in PICTURES]

    async def ask(client):
        about = (await client.get("/v2/models/tags")).json()
        everything = await client.post("/v2/models/tags/infer", json={"inputs": [tensor]})
        some = await client.post("/v2/models/tags/infer", json={"inputs": [tensor], "outputs": [{"name": "chosen"}]})
        other = await client.post("/v2/models/tags/infer", json={"inputs": [tensor], "outputs": [{"name": "labels"}]})
        return about, everything.json()["outputs"], some.json()["outputs"], other.status_code

    gate = build(Pool([folder], device="cpu"), Settings(decoders=1))
    about, everything, some, other = asked(gate, ask, with_decoders=True)
    assert [(one["name"], one["datatype"], one["shape"]) for one in about["outputs"]] == [
        ("probabilities", "FP32", [-1, 5]),
        ("chosen", "BOOL", [-1, 5]),
    ]
    assert [(one["name"], one["shape"]) for one in everything] == [("probabilities", [3, 5]), ("chosen", [3, 5])]
    chosen = everything[1]
    assert chosen["datatype"] == "BOOL"
    assert chosen["data"] == [i in one.chosen for one in found for i in range(len(labels))]
    assert everything[0]["data"] == pytest.approx([v for one in found for v in one.probabilities.tolist()], abs=1e-5)
    assert some == [chosen]
    assert other == 400


def test_formats__that_are_switched_off_are_refused(folder):
    async def ask(client):
        kinds = ("PNG", "JPEG", "WEBP")
        pictures = [a_picture(kind=kind) for kind in kinds]
        # Whatever it is said to be.
        return [await client.post("/predict/tags", files={"image": ("x.png", one, "image/png")}) for one in pictures]

    gate = build(Pool([folder], device="cpu"), Settings(decoders=1, formats=("png", "webp")))
    answers = asked(gate, ask, with_decoders=True)
    assert [answer.status_code for answer in answers] == [200, 415, 200]
    assert "PNG, WEBP" in answers[1].json()["error"]
