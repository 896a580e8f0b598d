import shutil

import numpy as np
import pytest

from lumora.errors import BundleError, OutputError
from lumora.studio.library_view import export_bundle, merge_bundle, open_bundle, push_bundle, shelf


def test_shelf__has_the_bundles_of_runs_and_others(bundles, tmp_path):
    shutil.copytree(bundles["vit"], tmp_path / "runs/flowers/bundle")
    found = shelf(tmp_path / "runs", [str(bundles["segformer"])])
    assert [(one.name, one.task) for one in found] == [("flowers", "classification"), ("segformer", "segmentation")]
    assert shelf(tmp_path / "nowhere", ["someone/flowers"]) == []
    assert found[0].bytes == sum(p.stat().st_size for p in (tmp_path / "runs/flowers/bundle").iterdir())


def test_open_bundle__shows_the_card_and_what_is_damaged(bundles, tmp_path):
    opened = open_bundle(str(bundles["vit"]))
    assert opened.problems == ()
    assert opened.card.startswith("# Image classification")
    shutil.copytree(bundles["vit"], tmp_path / "bundle")
    (tmp_path / "bundle/adapter_model.safetensors").write_bytes(b"")
    assert any("adapter_model" in problem for problem in open_bundle(str(tmp_path / "bundle")).problems)


def test_merge_bundle__what_it_writes_loads_elsewhere(bundles, tmp_path):
    import transformers

    merged = merge_bundle(str(bundles["vit"]), str(tmp_path / "plain"))
    model = transformers.ViTForImageClassification.from_pretrained(merged.folder)
    assert list(model.config.id2label.values()) == ["red fox", "otter", "owl"]
    with pytest.raises(OutputError, match="is there already"):
        merge_bundle(str(bundles["vit"]), str(tmp_path / "plain"))


@pytest.mark.slow
def test_export_bundle__what_it_writes_runs_without_torch(bundles, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    exported = export_bundle(str(bundles["vit"]), str(tmp_path / "vit.onnx"))
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    [logits] = session.run(None, {session.get_inputs()[0].name: np.zeros((1, 3, 32, 32), dtype=np.float32)})
    assert logits.shape == (1, 3)
    with pytest.raises(OutputError, match="is there already"):
        export_bundle(str(bundles["vit"]), str(tmp_path / "vit.onnx"))


@pytest.mark.parametrize(
    ("work", "kind", "said"),
    [
        (lambda: open_bundle(""), BundleError, "Choose a bundle"),
        (lambda: merge_bundle(" ", "x"), BundleError, "Choose a bundle"),
        (lambda: merge_bundle("x", " "), OutputError, "Name the new folder"),
        (lambda: push_bundle("x", " ", private=True, sure=True), BundleError, "user/name"),
        (lambda: push_bundle("x", "a/b", private=True, sure=False), BundleError, "leave this machine"),
        (lambda: push_bundle(" /nowhere ", "a/b", private=True, sure=True), BundleError, "no folder /nowhere;"),
        (lambda: open_bundle("/nowhere"), BundleError, "There is no folder /nowhere"),
        (lambda: open_bundle("someone/flowers"), BundleError, "There is no folder"),  # and does not ask the Hub
        (lambda: merge_bundle("someone/flowers", "nowhere/plain"), BundleError, "There is no folder"),
    ],
)
def test_library__says_what_is_missing(work, kind, said):
    with pytest.raises(kind, match=said):
        work()
