import json

import pytest
from tests.predict.making import bundle_of


@pytest.mark.slow
def test_export__writes_and_replaces(lumora, tmp_path):
    onnx = pytest.importorskip("onnx")
    bundle = bundle_of("vit", tmp_path)[0]
    out = tmp_path / "deep/model.onnx"
    ended = lumora("export", bundle, "--onnx", out)
    assert ended.code == 0
    assert "free:              batch" in ended.out
    assert "fixed:             height and width: the model takes pictures of one size alone" in " ".join(
        ended.out.splitlines()
    )
    onnx.checker.check_model(onnx.load(out))
    out.write_text("mine")
    assert lumora("export", bundle, "--onnx", out).code == 2
    assert out.read_text() == "mine"
    ended = lumora("export", bundle, "--onnx", out, "--force", "--json")
    assert ended.code == 0
    told = json.loads(ended.out)
    assert (told["out"], told["bytes"], told["dynamic"]) == (str(out), out.stat().st_size, ["batch"])


def test_export__misuses(lumora, tmp_path):
    bundle = bundle_of("vit", tmp_path)[0]
    for arguments, words in (
        ([bundle], "Missing option '--onnx'"),
        ([bundle, "--onnx", tmp_path], "is a folder; name a file in it"),
    ):
        ended = lumora("export", *arguments)
        assert (ended.code, ended.out) == (2, "")
        assert words in ended.told
    assert lumora("export", tmp_path, "--onnx", tmp_path / "a.onnx").code == 1
