import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.bundle.making import LABELS, adapted, base_of, pyramid, ready_base
from tests.bundle.making import about_of as about_of_base
from tests.data.making import noise, put
from tests.predict.making import bundle_of

import lumora
from lumora.bundle import write
from lumora.errors import BundleError, InputError, LumoraError
from lumora.predict import export_onnx, onnx_export
from lumora.tasks.base import logits_of

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
PAGE = Path(__file__).parents[2] / "docs/guides/exporting.md"


def scripts():
    """The programs on the page that need no torch: for labels, and for masks (which begins as the other one does)."""
    blocks = re.findall(r"^```py(?:thon)?\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    labels = next(block for block in blocks if "import onnxruntime" in block)
    end = next(block for block in blocks if "putpalette" in block)
    return labels, labels[: labels.index("logits = ")] + end


def without_torch(script, folder):
    """Run a program in a process that cannot import torch, nor Lumora."""
    start = "import sys\nfor name in ('torch', 'lumora', 'transformers', 'torchvision'): sys.modules[name] = None\n"
    check = "try:\n    import torch\n    raise SystemExit('torch was imported')\nexcept ImportError:\n    pass\n"
    done = subprocess.run([sys.executable, "-c", start + check + script], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_by_onnxruntime(path, pixels):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"pixel_values": pixels.numpy()})[0])


FREE = {
    "vit": ("batch",),
    "timm": ("batch", "height", "width"),
    "embedded": ("batch", "height", "width"),
    "embedded-multilabel": ("batch", "height", "width"),
    "segformer": ("batch", "height", "width"),
    "embedded-light": ("batch", "height", "width"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", FREE)
def test_export__gives_what_torch_gives(tmp_path, kind):
    bundle, model, about = bundle_of(kind, tmp_path)
    made = export_onnx(bundle, tmp_path / "model.onnx")
    assert (made.path, made.size) == (tmp_path / "model.onnx", (tmp_path / "model.onnx").stat().st_size)
    assert made.dynamic == FREE[kind]
    assert ("the model takes pictures of one size alone" in made.fixed) is (kind == "vit")
    assert made.largest_difference < 1e-3
    height, width = about.size
    shapes = [(1, height, width), (7, height, width)]
    if "height" in made.dynamic:
        shapes += [(3, height + 96, width + 32), (2, height + 37, width + 21), (1, height - 3, width - 31)]
    for count, h, w in shapes:
        pixels = torch.randn(count, 3, h, w, generator=torch.Generator().manual_seed(count))
        with torch.no_grad():
            expected = logits_of(model(pixels))
        torch.testing.assert_close(run_by_onnxruntime(made.path, pixels), expected, atol=1e-3, rtol=1e-3)
    file = onnx.load(made.path)
    values = json.loads({entry.key: entry.value for entry in file.metadata_props}["lumora"])
    assert (values["task"], tuple(values["labels"])) == (about.task, LABELS)
    assert values["threshold"] == about.threshold
    assert values["preprocessing"]["mean"] == list(about.preprocessing.mean)
    assert [side.dim_param for side in file.graph.input[0].type.tensor_type.shape.dim if side.dim_param] == [
        *FREE[kind]
    ]


def attentive():
    """A small model that takes any size and lets the parts of a picture look at each other."""

    class Attentive(type(pyramid())):
        def __init__(self, labels):
            super().__init__(labels)
            self.looking = torch.nn.MultiheadAttention(16, 2, batch_first=True)

        def forward(self, x):
            parts = self.last(self.down(self.stem(x))).flatten(2).mT
            return self.score(self.looking(parts, parts, parts)[0].mean(1))

    torch.manual_seed(5)
    return Attentive(7)


def only_even():
    class OnlyEven(type(pyramid())):
        def forward(self, x):
            if x.shape[2] % 32 or x.shape[3] % 32:
                raise ValueError("sides must be multiples of 32")
            return super().forward(x)

    torch.manual_seed(5)
    return OnlyEven(7)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (pyramid, None),
        (only_even, None),
        (attentive, "for labels, other sizes are left to convolutional networks, and this one has attention"),
    ],
)
def test_other_sizes__are_tried_where_that_is_quick(make, problem):
    base = ready_base(make())
    model, about = onnx_export._Logits(base.module.eval()), about_of_base(base, 64)
    if problem is None:
        onnx_export._check_takes_other_sizes(model, about)
    else:
        with pytest.raises(InputError, match=problem):
            onnx_export._check_takes_other_sizes(model, about)
        onnx_export._check_takes_other_sizes(model, replace(about, task="segmentation"))


@pytest.mark.slow
def test_export__says_why_less_is_free(tmp_path):
    """A layer that torch stretches by the sizes, and the file as it was when it was converted."""

    class Pooled(type(pyramid())):
        def __init__(self, labels):
            super().__init__(labels)
            self.score = torch.nn.Linear(16 * 9, labels)

        def forward(self, x):
            return self.score(torch.nn.functional.adaptive_avg_pool2d(self.last(self.down(self.stem(x))), 3).flatten(1))

    def pooled():
        torch.manual_seed(5)
        return Pooled(7)

    base = ready_base(pooled())
    write(tmp_path / "bundle", adapted(base), about_of_base(base, 64))
    made = export_onnx(tmp_path / "bundle", tmp_path / "model.onnx", base=pooled())
    assert made.dynamic == ("batch",)
    assert made.fixed.startswith("height and width: ")
    assert len(made.fixed) > 40


@pytest.mark.slow
def test_page__says_labels_without_torch(tmp_path):
    bundle, _, _ = bundle_of("embedded", tmp_path)
    put(tmp_path / "picture.jpg", noise(150, 210), quality=95)
    export_onnx(bundle, tmp_path / "model.onnx")
    label, probability = without_torch(scripts()[0], tmp_path).rsplit(maxsplit=1)
    said = lumora.load(bundle, device="cpu").predict(tmp_path / "picture.jpg")
    assert label.strip() == LABELS[said.chosen[0]]
    assert float(probability) == pytest.approx(float(said.probabilities.max()), abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("corner", ["even", "floor"])
def test_page__crops_as_lumora_does(tmp_path, corner):
    """The crop begins between two pixels: three are left over in height, and seven in width."""
    base, side = base_of("embedded", tmp_path / "base")
    seen = replace(base.preprocessing, resize=(side + 3, side + 7), crop=(side, side), crop_corner=corner)
    about = about_of_base(base, side, preprocessing=seen)
    write(tmp_path / "bundle", adapted(base), about)
    put(tmp_path / "picture.png", noise(side + 3, side + 7))
    export_onnx(tmp_path / "bundle", tmp_path / "model.onnx")
    program = scripts()[0].replace("picture.jpg", "picture.png").replace("4))", "9))")
    if corner == "floor":
        program = program.replace("round((size[1] - crop[1]) / 2)", "(size[1] - crop[1]) // 2")
        program = program.replace("round((size[0] - crop[0]) / 2)", "(size[0] - crop[0]) // 2")
    said = lumora.load(tmp_path / "bundle", device="cpu").predict(tmp_path / "picture.png")
    probability = float(without_torch(program, tmp_path).rsplit(maxsplit=1)[1])
    assert probability == pytest.approx(float(said.probabilities.max()), abs=1e-5)


@pytest.mark.slow
def test_page__draws_masks_without_torch(tmp_path):
    from PIL import Image

    bundle, _, _ = bundle_of("segformer", tmp_path)
    put(tmp_path / "picture.jpg", noise(90, 130), quality=95)
    export_onnx(bundle, tmp_path / "model.onnx")
    without_torch(scripts()[1], tmp_path)
    with Image.open(tmp_path / "mask.png") as mask:
        assert mask.getpalette()[:9] == [255, 0, 0, 0, 255, 0, 0, 0, 255]
        found = np.array(mask)
    expected = lumora.load(bundle, device="cpu").predict(tmp_path / "picture.jpg").mask.numpy()
    assert found.shape == expected.shape
    assert (found == expected).mean() > 0.97


def test_page__the_program_is_short():
    assert len([line for line in scripts()[0].splitlines() if line.strip()]) <= 20


@pytest.mark.slow
def test_export__what_differs_is_not_written(tmp_path, monkeypatch):
    """The model changes after it was converted: what onnxruntime gives is not what torch gives any more."""
    bundle, _, _ = bundle_of("vit", tmp_path)
    convert = onnx_export._converted

    def converted(model, about, wish):
        made = convert(model, about, wish)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.5)
        return made

    monkeypatch.setattr(onnx_export, "_converted", converted)
    with pytest.raises(BundleError, match=r"nothing was written(?s:.*)The outputs differ"):
        export_onnx(bundle, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.slow
def test_export__a_model_that_cannot_be_converted_is_told(tmp_path):
    class Moody(type(pyramid())):
        """Looks at numbers to decide what to compute."""

        def forward(self, x):
            return super().forward(x) * (1.0 if float(x.sum()) > 0 else 2.0)

    def moody():
        torch.manual_seed(5)
        return Moody(7)

    base = ready_base(moody())
    write(tmp_path / "bundle", adapted(base), about_of_base(base, 64))
    with pytest.raises(BundleError, match=r"nothing was written(?s:.*)torch cannot convert it"):
        export_onnx(tmp_path / "bundle", tmp_path / "model.onnx", base=moody())


def test_export__a_model_that_no_file_can_hold_is_told_before_it_is_converted(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "_LARGEST", 1000)
    monkeypatch.setattr(onnx_export, "_converted", lambda *given: pytest.fail("it was converted"))
    with pytest.raises(BundleError, match=r"The model takes .* GB, and an ONNX file holds 2\.1 GB at most"):
        export_onnx(bundle_of("vit", tmp_path)[0], tmp_path / "model.onnx")


def test_export__what_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(LumoraError, match=r"needs onnxscript: pip install 'lumora\[export\]'"):
        onnx_export.check_installed()
