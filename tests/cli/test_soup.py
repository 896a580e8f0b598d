import json

import pytest
from tests.bundle.test_soup import bundles_of


@pytest.mark.slow
def test_soup__writes_a_bundle(lumora, tmp_path):
    bundles, _ = bundles_of(tmp_path)
    out = tmp_path / "soup"
    ended = lumora("soup", *bundles, "--out", out, "--weights", "3,1")
    assert ended.code == 0
    assert f"lumora evaluate {out} DATA" in ended.out
    assert json.loads((out / "lumora.json").read_text())["recipe"]["soup"]["weights"] == [0.75, 0.25]
    ended = lumora("soup", *bundles, "--out", out)
    assert ended.code == 2
    assert "is there already; name another folder, or replace it with --force" in ended.told


def test_soup__misuses(lumora, tmp_path):
    bundles, _ = bundles_of(tmp_path)
    for arguments, words in (
        ([*bundles, "--out", bundles[0]], "which is read"),
        ([*bundles, "--out", tmp_path / "new", "--weights", "3,x"], "'3,x' are no numbers with commas between them"),
        ([*bundles, "--out", tmp_path / "new", "--weights", "3"], "2 bundles and 1 weights"),
        ([bundles[0], "--out", tmp_path / "new"], "made of two bundles or more"),
    ):
        ended = lumora("soup", *arguments)
        assert (ended.code, ended.out) == (2, "")
        assert words in ended.told
