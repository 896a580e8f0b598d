import json

import numpy as np
import pytest
from PIL import Image
from tests.bundle.making import about_of, adapted, base_of, fill
from tests.cli.predictions import lines_of
from tests.data.making import noise, put
from tests.predict.making import bundle_of

import lumora as library
from lumora.bundle import write


def two(folder, kind):
    """Two bundles on one base, as runs have them."""
    for number, name in enumerate(("first", "second")):
        base, side = base_of(kind, folder / "base")
        model = adapted(base)
        fill(model, seed=number)
        write(folder / f"runs/{name}/bundle", model, about_of(base, side))
    return [folder / f"runs/{name}/bundle" for name in ("first", "second")]


@pytest.mark.parametrize("tile", [None, 32])
def test_compare__masks(lumora, tmp_path, tile):
    bundles = two(tmp_path, "segformer")
    for i in range(3):
        put(tmp_path / "pictures" / f"{i}.png", noise(60 + i, 80, seed=i))
    (tmp_path / "pictures/bad.png").write_bytes(b"")
    out = tmp_path / "out"
    arguments = ["predict", *bundles, tmp_path / "pictures", "--compare", "--out", out]
    arguments += [] if tile is None else ["--tile", tile]
    ended = lumora(*arguments, "--skip-bad", "--json")
    assert ended.code == 0
    *lines, bad = lines_of(out)
    assert set(bad) == {"picture", "error"}
    alone = {bundle.parent.name: library.load(bundle, device="cpu", tile=tile) for bundle in bundles}
    for line in lines:
        masks = []
        for name, predictor in alone.items():
            with Image.open(out / line["bundles"][name]["mask"]) as image:
                masks.append(np.array(image))
            assert np.array_equal(masks[-1], predictor.predict(line["picture"]).mask.numpy())
            assert sum(c["pixels"] for c in line["bundles"][name]["classes"]) == masks[-1].size
        assert line["disagreement"] == pytest.approx((masks[0] != masks[1]).mean())
        with Image.open(out / line["overlay"]) as overlay:
            assert overlay.width > 4 * 80  # picture, both, and where they disagree
    told = json.loads(ended.out)
    assert told["disagreement"] == pytest.approx(np.mean([line["disagreement"] for line in lines]))
    assert told["most_in"] == max(lines, key=lambda line: line["disagreement"])["picture"]
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert len(before) == 6
    assert lumora(*arguments, "--skip-bad", "--resume").code == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == before
    assert lumora(*arguments, "--skip-bad").code == 0  # its own files are replaced


def test_compare__labels(lumora, tmp_path):
    bundles = two(tmp_path, "vit")
    put(tmp_path / "a.png", noise(60, 80))
    ended = lumora("predict", *bundles, tmp_path / "a.png", "--compare", "--out", tmp_path / "out")
    assert ended.code == 0
    assert "disagreement:" in ended.out
    (line,) = lines_of(tmp_path / "out")
    one, other = (line["bundles"][name]["probabilities"] for name in ("first", "second"))
    assert line["disagreement"] == pytest.approx(sum(abs(one[n] - other[n]) for n in one) / 2, abs=1e-5)


def test_compare__misuses(lumora, tmp_path):
    bundles = two(tmp_path, "vit")
    other = bundle_of("segformer", tmp_path / "other")[0]
    put(tmp_path / "a.png", noise(60, 80))
    for arguments, words in (
        ([bundles[0], tmp_path / "a.png"], "name at least two bundles and then pictures"),
        (bundles, "name at least two bundles and then pictures"),
        ([bundles[0], "pictures/typo.png", tmp_path / "a.png"], "name at least two bundles and then pictures"),
        ([*bundles, "pictures/typo.PNG", tmp_path / "a.png"], "There is no file or folder pictures/typo.PNG."),
        ([bundles[0], other, tmp_path / "a.png"], "only bundles with the same labels in the same order"),
    ):
        ended = lumora("predict", *arguments, "--compare", "--out", tmp_path / "out")
        assert (ended.code, ended.out) == (2, "")
        assert words in ended.told
    assert not (tmp_path / "out").exists()
