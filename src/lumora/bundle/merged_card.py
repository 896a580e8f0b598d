"""The `README.md` of a plain checkpoint that a bundle was merged into."""

from __future__ import annotations

from typing import Literal

from lumora.bundle.about import About
from lumora.bundle.card import (
    KINDS,
    METHODS,
    PLACE,
    front_matter,
    joined,
    labels,
    results,
    shown_name,
    summary,
    training,
)

Kind = Literal["transformers", "timm", "tensors"]

PIPELINES = {task: pipeline for task, (_, pipeline) in KINDS.items()}
"""What transformers calls each task."""

_LIBRARIES = {"transformers": "transformers", "timm": "timm", "tensors": "lumora"}


def merged_card(about: About, kind: Kind, place: str = PLACE) -> str:
    """The card's text; `place` is where the checkpoint will lie."""
    return joined(
        front_matter(about, library=_LIBRARIES[kind], tags=[]),
        f"# {KINDS[about.task][0]} on {shown_name(about)}, merged",
        summary(about, f"{METHODS[about.method]}; folded into the base's weights, so that nothing else is needed"),
        f"## Use it\n\n{_USES[kind](about, place)}",
        results(about),
        labels(about),
        training(about),
    )


def _with_pipeline(place: str, about: About) -> str:
    task = PIPELINES[about.task]
    shown = 'answer["label"]' if about.task == "segmentation" else 'answer["label"], f"{answer[\'score\']:.0%}"'
    return _code(
        "import transformers",
        "",
        f'pipeline = transformers.pipeline("{task}", model="{place}")',
        'for answer in pipeline("picture.jpg"):',
        f"    print({shown})",
    )


def _of_transformers(about: About, place: str) -> str:
    return _with_pipeline(place, about)


def _of_timm(about: About, place: str) -> str:
    likely = "sigmoid()" if about.task == "multilabel" else "softmax(0)"
    return (
        _code(
            "import timm",
            "import torch",
            "from PIL import Image",
            "",
            f'model = timm.create_model("local-dir:{place}", pretrained=True).eval()',
            "config = timm.data.resolve_model_data_config(model)",
            "prepare = timm.data.create_transform(**config, is_training=False)",
            'picture = Image.open("picture.jpg").convert("RGB")',
            "with torch.no_grad():",
            f"    probabilities = model(prepare(picture)[None])[0].{likely}",
            'for name, probability in zip(model.pretrained_cfg["label_names"], probabilities):',
            '    print(name, f"{probability:.0%}")',
        )
        + "\n\nFrom the Hub, `hf-hub:` takes the place of `local-dir:`. It is a model of transformers, too:\n\n"
        + _with_pipeline(place, about)
    )


def _of_tensors(about: About, place: str) -> str:
    wish = f"task={about.task!r}, labels={list(about.labels.names)!r}"
    if about.base.head != "auto":
        wish += f", head={about.base.head!r}"
    module = about.base.library == "module"
    lines = [f"model = ...  # a {about.base.name} with {len(about.labels)} labels"]
    if not module:
        lines = [f"model = load_base({shown_name(about)!r}, {wish}).module"]
    return _code(
        "import safetensors.torch",
        *([] if module else ["from lumora.models import load_base"]),
        "",
        *lines,
        f'model.load_state_dict(safetensors.torch.load_file("{place}/model.safetensors"))',
        "model.eval()",
    )


def _code(*lines: str) -> str:
    return "\n".join(["```python", *lines, "```"])


_USES = {"transformers": _of_transformers, "timm": _of_timm, "tensors": _of_tensors}
