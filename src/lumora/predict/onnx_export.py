"""A bundle as an ONNX file: adapters folded in, and said to be written only when onnxruntime gives what torch gives.

The file has one input, `pixel_values` (pictures, 3, height, width) of `float32`, and one output, `logits`. Its metadata
hold, as JSON under the key `lumora`, what is needed beside it: task, labels, colours, threshold and preprocessing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lumora.bundle import About, proof, read_about
from lumora.bundle import load as load_bundle
from lumora.bundle.elsewhere import check_in_torch
from lumora.data.durable import write_file
from lumora.errors import BundleError, InputError, LumoraError
from lumora.lora import PeftModel
from lumora.models.watching import trying_out
from lumora.paths import at_home
from lumora.predict.same_padding import as_one_operation
from lumora.tasks.base import logits_of

INPUT, OUTPUT, KEY = "pixel_values", "logits", "lumora"
_FORMAT = 1
_NEEDED = ("onnx", "onnxruntime", "onnxscript")
_AXES = {0: "batch", 2: "height", 3: "width"}
_LARGEST = 2**31 - 2**20
"""Bytes of a file: ONNX cannot hold more in one."""
_LONGEST = 200
"""Letters of a reason: onnxruntime's go on for whole paragraphs."""
_TOLERANCE = 1e-3
"""Of the largest logit: what counts as rounding."""

Shape = tuple[int, int, int]
"""How many pictures, and their height and width."""


@dataclass(frozen=True)
class Exported:
    """A file that was written, and what it takes."""

    path: Path
    size: int
    """In bytes."""
    dynamic: tuple[str, ...]
    """Which of `batch`, `height` and `width` may be any number."""
    largest_difference: float
    """Between the logits of onnxruntime and of torch, as a share of the largest."""
    compared: tuple[Shape, ...]
    """The inputs that were tried."""
    fixed: str = ""
    """Which of the three are not free, and why; empty where all are."""


def export_onnx(
    bundle: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    base: str | nn.Module | None = None,
    allow_other_base: bool = False,
    revision: str | None = None,
) -> Exported:
    """Write a bundle's model as an ONNX file that runs without torch.

    The number of pictures is free where the model allows it, and so are their height and width. Several inputs go
    through onnxruntime and torch first; if they differ by more than rounding, less is left free, and at last nothing is
    written.

    Args:
        bundle: its folder, or the name of its repository on the Hub.
        path: the file; one that was there is replaced.
        base: where the bundle's base lies now, or the base itself.
        allow_other_base: go on where the base's weights are others than in training.
        revision: of a repository, the branch, tag or commit.
    """
    check_installed()
    check_in_torch(read_about(bundle, revision=revision), bundle)
    loaded = load_bundle(bundle, base=base, allow_other_base=allow_other_base, revision=revision)
    plain = loaded.model
    if isinstance(plain, PeftModel):
        plain = plain.merge_and_unload(safe_merge=True)
    model, about = _Logits(plain.float().eval()), loaded.about
    if (size := sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))) > _LARGEST:
        raise BundleError(f"The model takes {size / 1e9:.1f} GB, and an ONNX file holds 2.1 GB at most.")
    problems: dict[str, str] = {}
    for wish in (_AXES, {0: "batch"}, dict[int, str]()):
        try:
            if wish is _AXES:  # a forward pass is quick beside converting in vain
                _check_takes_other_sizes(model, about)
            made = _written(model, about, wish, at_home(path))
            return replace(made, fixed=_fixed(made.dynamic, problems.values()))
        except (InputError, BundleError) as error:
            problems[_listed(wish.values()) or "nothing"] = str(error)
    raise BundleError(
        "The model could not be exported; nothing was written.\n"
        + "\n".join(f"  - with {free} free: {problem}" for free, problem in problems.items())
    )


def _fixed(dynamic: Sequence[str], problems: Iterable[str]) -> str:
    """What is not free, and why."""
    left = [name for name in _AXES.values() if name not in dynamic]
    reasons = "; ".join(dict.fromkeys(problem.rstrip(".") for problem in problems))
    return f"{_listed(left)}: {reasons}" if left else ""


def _listed(words: Iterable[str]) -> str:
    *first, last = (*words,) or ("",)
    return f"{', '.join(first)} and {last}" if first else last


def check_installed() -> None:
    """Raise unless what is needed is installed."""
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise LumoraError(f"Exporting to ONNX needs {', '.join(missing)}: pip install 'lumora[export]'")


class _Logits(nn.Module):
    """A model that gives its logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        """The logits."""
        return logits_of(self.model(pixel_values))


def _written(model: nn.Module, about: About, wish: dict[int, str], path: Path) -> Exported:
    content, dynamic = _converted(model, about, wish)
    shapes = [shape for shape in _shapes(about, dynamic) if _refusal(model, about, shape) is None]
    difference = max(_difference(model, about, content, shape) for shape in shapes)
    write_file(path, content)
    return Exported(path, len(content), dynamic, difference, tuple(shapes))


def _converted(model: nn.Module, about: About, wish: dict[int, str]) -> tuple[bytes, tuple[str, ...]]:
    """The content of the file, and which axes are free in it."""
    import onnx

    free = dict.fromkeys(wish, torch.export.Dim.AUTO)
    example = _pixels(about, (2 if 0 in wish else 1, *about.size))
    try:
        with trying_out(model), torch.no_grad(), as_one_operation(model) as written_as:
            program: Any = torch.onnx.export(
                model,
                (example,),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({**free},) if free else None,
                dynamo=True,
                custom_translation_table=written_as,
                verbose=False,
            )
            found: Any = program.model_proto
            size = found.ByteSize()  # an error too, where it is far too large
    except Exception as error:  # the exporter has errors of many kinds, and long ones
        raise InputError(f"torch cannot convert it: {_first_line(error)}") from error
    if size > _LARGEST:
        raise InputError(f"it takes {size / 1e9:.1f} GB, and an ONNX file holds 2.1 GB at most.")
    sides = found.graph.input[0].type.tensor_type.shape.dim
    dynamic = tuple(name for axis, name in _AXES.items() if sides[axis].dim_param)
    if set(wish.values()) - set(dynamic):
        raise InputError(f"the model itself does not allow it: {', '.join(dynamic) or 'nothing'} can be.")
    for axis, name in _AXES.items():
        if sides[axis].dim_param:
            _rename(found, sides[axis].dim_param, name)
    found.metadata_props.add(key=KEY, value=json.dumps(_about(about, dynamic)))
    onnx.checker.check_model(found)
    return found.SerializeToString(), dynamic


def _first_line(error: Exception) -> str:
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."


def _rename(found: Any, old: str, new: str) -> None:
    """Give a free axis a name that people understand, wherever it is named."""
    for value in (*found.graph.input, *found.graph.output, *found.graph.value_info):
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param == old:
                side.dim_param = new


def _about(about: About, dynamic: Sequence[str]) -> dict[str, Any]:
    """What has to be known to use the file, and where it comes from."""
    height, width = about.size
    return {
        "format": _FORMAT,
        "task": about.task,
        "labels": list(about.labels.names),
        "colours": [list(colour) for colour in about.labels.palette()] if about.task == "segmentation" else None,
        "threshold": about.threshold,
        "preprocessing": about.at_size.to_dict(),
        "height": height,
        "width": width,
        "dynamic": list(dynamic),
        "base": about.base.name if about.base.library != "module" else None,
        "licence": about.base.licence,
        "recipe_hash": about.recipe_hash,
        "versions": {name: metadata.version(name) for name in ("lumora", "torch", "onnx")},
    }


# --- comparing --------------------------------------------------------------------------------------------------------


def _shapes(about: About, dynamic: Sequence[str]) -> list[Shape]:
    """Inputs to try: others than the one that was converted with, in each axis that is free."""
    height, width = about.size
    shapes: list[Shape] = [(1, height, width)]
    if "batch" in dynamic:
        shapes += [(2, height, width), (5, height, width)]
    if {"height", "width"} & set(dynamic):
        down, along = "height" in dynamic, "width" in dynamic
        shapes += [
            (1, height + 64 * down, width),
            (2 if "batch" in dynamic else 1, height, width + 32 * along),
            (1, height + 37 * down, width + 21 * along),
        ]
    return shapes


def _check_takes_other_sizes(model: nn.Module, about: About) -> None:
    """Raise if torch takes pictures of one size alone, as where position embeddings are of one size."""
    reasons = [_refusal(model, about, shape) for shape in _shapes(about, ("height", "width"))[1:]]
    if all(reasons):
        raise InputError(f"the model takes pictures of one size alone ({reasons[0]})")
    if about.task != "segmentation" and _has_attention(model, about):
        # Where these take other sizes, converting them so takes minutes, and most files are wrong in the end.
        raise InputError("for labels, other sizes are left to convolutional networks, and this one has attention")


def _has_attention(model: nn.Module, about: About) -> bool:
    watched = _Attention()
    with trying_out(model), torch.no_grad(), watched:
        model(_pixels(about, (1, *about.size)))
    return watched.found


class _Attention(TorchDispatchMode):
    """Sees whether attention is computed inside, whatever the layers are called."""

    found = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.found = self.found or any(word in str(func) for word in ("softmax", "attention", "transformer"))
        return func(*args, **(kwargs or {}))


def _refusal(model: nn.Module, about: About, shape: Shape) -> str | None:
    """Why torch does not take such pictures, where it does not: some take even sides alone, and so do their files."""
    if shape[1:] == about.size:
        return None
    try:
        with trying_out(model), torch.no_grad():
            model(_pixels(about, shape))
    except Exception as error:  # every model refuses in its own way
        return _first_line(error)
    return None


def _difference(model: nn.Module, about: About, content: bytes, shape: Shape) -> float:
    """How far onnxruntime is from torch, as a share of the largest logit; more than rounding is an error."""
    import onnxruntime

    pixels = _pixels(about, shape)
    with trying_out(model), torch.no_grad():
        expected = model(pixels).float()
    options: Any = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is told here
    try:
        session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        found = torch.from_numpy(session.run([OUTPUT], {INPUT: pixels.numpy()})[0])
    except Exception as error:  # onnxruntime's errors share no class of their own
        raise InputError(f"onnxruntime cannot run it on {shape}: {_first_line(error)}") from error
    proof.compare({proof.LOGITS: expected}, {proof.LOGITS: found}, _TOLERANCE)
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-12))


def _pixels(about: About, shape: Shape) -> Tensor:
    """Pictures as the model sees them, each another."""
    count, height, width = shape
    drawn = proof.pictures((height, width))
    pictures = torch.stack([drawn[i % len(drawn)].roll(7 * i, -1) for i in range(count)])
    return about.at_size.normalise(pictures).float().contiguous()
