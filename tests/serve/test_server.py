"""What the running server answers, compared with the bundles used from Python."""

import base64
import io
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from PIL import Image
from tests.serve.pictures import a_picture
from tests.serve.running import until

import lumora
from lumora.serve.http.answers import from_run_lengths

pytestmark = pytest.mark.slow


def expected(bundles, name, picture):
    return lumora.load(bundles / name, device="cpu").predict(picture)


def check_labels(content, bundles, name, picture):
    """What was answered is what the bundle says."""
    loaded = lumora.load(bundles / name, device="cpu")
    right = loaded.predict(picture)
    assert content["labels"] == [loaded.labels.names[i] for i in right.chosen]
    for label, probability in content["probabilities"].items():
        assert probability == pytest.approx(float(right.probabilities[loaded.labels.names.index(label)]), abs=1e-5)


def test_predict__takes_forms_json_and_plain_bodies(server, bundles):
    picture = a_picture(1)
    answers = [
        server.client.post("/predict/birds", files={"image": ("x.png", picture, "image/png")}),
        server.client.post("/predict/birds", json={"image": base64.b64encode(picture).decode()}),
        server.client.post("/predict/birds", content=picture, headers={"Content-Type": "image/png"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    contents = [answer.json() for answer in answers]
    assert contents[0] == contents[1] == contents[2]
    assert contents[0]["bundle"] == "birds"
    assert len(contents[0]["probabilities"]) == 5
    check_labels(contents[0], bundles, "birds", picture)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_predict__gives_masks_as_png_and_as_run_lengths(server, bundles, kind):
    picture = a_picture(2, kind, 47, 83)
    right = expected(bundles, "spots", picture).mask
    png = server.client.post("/predict/spots", files={"image": picture}).json()
    runs = server.client.post("/predict/spots?mask=rle", files={"image": picture}).json()
    none = server.client.post("/predict/spots?mask=none", files={"image": picture}).json()
    image = Image.open(io.BytesIO(base64.b64decode(png["mask_png"])))
    assert image.mode == "P"
    assert (image.height, image.width) == (png["height"], png["width"]) == (47, 83)
    assert (np.asarray(image) == right.numpy()).mean() > 0.999
    assert (from_run_lengths(runs["mask_rle"], 47, 83) == right).float().mean() > 0.999
    assert not {"mask_png", "mask_rle"} & none.keys()
    assert sum(one["pixels"] for one in none["classes"]) == 47 * 83
    labels = lumora.load(bundles / "spots", device="cpu").labels
    for one in none["classes"]:
        assert tuple(bytes.fromhex(one["colour"].removeprefix("#"))) == labels.palette()[labels.index(one["label"])]


def test_predict__answers_many_at_once_in_batches_of_several_bundles(server, bundles):
    names, before = ("animals", "birds"), server.metric("lumora_batch_pictures_count")
    asked = [(names[i % 2], a_picture(i)) for i in range(40)]

    def ask(one):
        with httpx.Client(base_url=server.url, timeout=300) as client:
            return client.post(f"/predict/{one[0]}?top=10", files={"image": one[1]})

    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(ask, asked))
    assert {answer.status_code for answer in answers} == {200}
    alone = {name: lumora.load(bundles / name, device="cpu") for name in names}
    for (name, picture), answer in zip(asked, answers, strict=True):
        right = alone[name].predict(picture).probabilities
        for label, probability in answer.json()["probabilities"].items():
            assert probability == pytest.approx(float(right[alone[name].labels.names.index(label)]), abs=1e-5)
    assert server.metric("lumora_batch_pictures_count") - before < len(asked)


def test_inference__follows_the_protocol(server, bundles):
    assert server.client.get("/v2/health/live").json() == {"live": True}
    assert server.client.get("/v2/health/ready").json() == {"ready": True}
    assert server.client.get("/v2").json()["name"] == "lumora"
    about = server.client.get("/v2/models/birds").json()
    assert about["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    [version] = about["versions"]
    pictures = [a_picture(i) for i in range(3)]
    texts = [base64.b64encode(picture).decode() for picture in pictures]
    asked = {"id": "seven", "inputs": [{"name": "image", "shape": [3], "datatype": "BYTES", "data": texts}]}
    answer = server.client.post(f"/v2/models/birds/versions/{version}/infer", json=asked).json()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("seven", "birds", version)
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert outputs["probabilities"]["shape"] == [3, 5]
    found = np.array(outputs["probabilities"]["data"]).reshape(3, 5)
    loaded = lumora.load(bundles / "birds", device="cpu")
    right = loaded.predict(pictures)
    np.testing.assert_allclose(found, np.stack([one.probabilities.numpy() for one in right]), atol=1e-5)
    assert outputs["labels"]["data"] == [loaded.labels.names[one.chosen[0]] for one in right]
    some = server.client.post("/v2/models/birds/infer", json={**asked, "outputs": [{"name": "labels"}]}).json()
    assert [output["name"] for output in some["outputs"]] == ["labels"]
    assert server.client.get("/v2/models/birds/versions/0/ready").status_code == 404
    assert server.client.post("/v2/models/birds/versions/0/infer", json=asked).status_code == 404
    assert server.client.get(f"/v2/models/birds/versions/{version}/ready").json()["ready"] is True


def test_inference__gives_masks(server, bundles):
    picture = a_picture(4)
    asked = {
        "inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(picture).decode()]}]
    }
    [output] = server.client.post("/v2/models/spots/infer", json=asked).json()["outputs"]
    mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(output["data"][0]))))
    assert (mask == expected(bundles, "spots", picture).mask.numpy()).mean() > 0.999


def test_inference__says_that_binary_tensors_are_not_taken(server):
    head = b'{"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 8}}]}'
    answer = server.client.post(
        "/v2/models/birds/infer",
        content=head + b"\4\0\0\0AAAA",
        headers={"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"},
    )
    assert (answer.status_code, "binary_data=False" in answer.json()["error"]) == (415, True)


def test_logs__are_lines_of_json_with_the_requests_id(server):
    answer = server.client.post("/predict/animals", files={"image": a_picture()}, headers={"X-Request-Id": "order-66"})
    assert answer.headers["x-request-id"] == "order-66"
    [line] = until(lambda: [line for line in list(server.log) if line.get("request_id") == "order-66"], server)
    assert {"path": "/predict/animals", "status": 200, "bundle": "animals", "batch": 1}.items() <= line.items()
    assert {"decode_ms", "queue_ms", "compute_ms", "ms"} <= line.keys()
    own = server.client.get("/bundles", headers={"X-Request-Id": 'a" b'}).headers["x-request-id"]
    assert len(own) == 32
    assert server.said == []


def test_json__is_a_line_with_the_address_and_the_bundles(server):
    assert server.told == {"address": server.url, "bundles": ["animals", "birds", "places", "spots"]}
    assert httpx.get(f"{server.told['address']}/v2/health/ready").status_code == 200


def test_metrics__count_requests_pictures_and_bundles(server):
    before = server.metric("lumora_pictures_total")
    server.client.post("/predict/animals", files={"image": a_picture()})
    assert server.metric("lumora_pictures_total") == before + 1
    assert server.metric("lumora_known_bundles") == server.metric("lumora_loaded_bundles") == 4
    assert server.metric("lumora_loaded_bases") == 2
    assert server.metric("lumora_accepted_pictures") == 0


@pytest.mark.parametrize("path", ["/docs", "/playground"])
def test_pages__need_nothing_from_elsewhere(server, path):
    answer = server.client.get(path)
    assert answer.status_code == 200
    assert "http://" not in answer.text
    assert "https://" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_openapi__describes_every_body(server):
    described = server.client.get("/openapi.json").json()
    predict = described["paths"]["/predict/{adapter}"]["post"]
    assert {"multipart/form-data", "application/json", "image/jpeg"} <= predict["requestBody"]["content"].keys()
    assert {"200", "413", "415", "422", "429", "504"} <= predict["responses"].keys()
    for reference in ("InferenceRequest", "Added"):
        assert reference in described["components"]["schemas"]
