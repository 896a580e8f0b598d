"""Requests and answers of the Open Inference Protocol: pictures as tensors of texts, predictions as tensors."""

from __future__ import annotations

import math
from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lumora.serve.hosting.hosted import Hosted
from lumora.serve.hosting.loading import Description
from lumora.serve.http.answers import as_png
from lumora.serve.http.batching import Answer
from lumora.serve.http.bodies import decoded
from lumora.serve.http.refusals import malformed
from lumora.tasks import LabelPrediction, MaskPrediction

_IMAGE = "image"
_Length = Annotated[int, Field(ge=0, lt=2**31)]
_MOST_WISHES = 100


class InputTensor(BaseModel):
    """Pictures' files, each in base64."""

    model_config = ConfigDict(extra="ignore", strict=True)
    name: str
    shape: list[_Length] = Field(max_length=8, fail_fast=True)
    datatype: str
    data: list[Any]


class OutputWish(BaseModel):
    """An output that is asked for."""

    model_config = ConfigDict(extra="ignore", strict=True)
    name: str


class InferenceRequest(BaseModel):
    """A request for predictions of several pictures by one bundle."""

    model_config = ConfigDict(extra="ignore", strict=True)
    id: str | None = Field(default=None, max_length=256)
    inputs: list[InputTensor] = Field(max_length=1, fail_fast=True)
    outputs: Annotated[list[OutputWish], Field(max_length=_MOST_WISHES, fail_fast=True)] | None = None


def metadata(hosted: Hosted | Description) -> dict[str, Any]:
    """What a bundle takes and gives."""
    count = len(hosted.about.labels)
    outputs: dict[str, tuple[str, list[int]]] = {"probabilities": ("FP32", [-1, count]), "labels": ("BYTES", [-1])}
    if hosted.about.task == "segmentation":
        outputs = {"mask_png": ("BYTES", [-1])}
    elif hosted.about.task == "multilabel":
        outputs = {"probabilities": ("FP32", [-1, count]), "chosen": ("BOOL", [-1, count])}
    return {
        "name": hosted.name,
        "versions": [hosted.version],
        "platform": "lumora_pytorch",
        "inputs": [{"name": _IMAGE, "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": name, "datatype": kind, "shape": shape} for name, (kind, shape) in outputs.items()],
        "parameters": {"task": hosted.about.task, "labels": list(hosted.about.labels.names)},
    }


def asked_in(content: dict[str, Any]) -> InferenceRequest:
    """The request that JSON is, or a refusal that says what is wrong."""
    inputs = content.get("inputs")
    if isinstance(inputs, list) and len(cast("list[Any]", inputs)) != 1:
        raise malformed(f'There should be one input, "{_IMAGE}", but there are {len(cast("list[Any]", inputs))}.')
    try:
        return InferenceRequest.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise malformed(f"{where}: {first['msg']}.") from error


def pictures_in(asked: InferenceRequest, most: int) -> list[bytes]:
    """The pictures' files, if there are not too many."""
    [tensor] = asked.inputs
    if tensor.name != _IMAGE:
        raise malformed(f'The input should be called "{_IMAGE}".')
    if tensor.datatype != "BYTES":
        raise malformed(f'The datatype of "{_IMAGE}" should be BYTES: pictures\' files in base64.')
    if not tensor.data or math.prod(tensor.shape) != len(tensor.data):
        raise malformed(f"The shape says {math.prod(tensor.shape)} pictures, and there are {len(tensor.data)}.")
    if len(tensor.data) > most:
        raise malformed(f"There are {len(tensor.data)} pictures in one request; {most} are allowed.")
    return [decoded(text, f"{_IMAGE}.data[{i}]") for i, text in enumerate(tensor.data)]


def wanted_of(asked: InferenceRequest, hosted: Hosted) -> list[str]:
    """The names of the outputs that are asked for, each once; all if none are named."""
    known = [output["name"] for output in metadata(hosted)["outputs"]]
    wanted = list(dict.fromkeys(wish.name for wish in asked.outputs)) if asked.outputs else known
    if any(name not in known for name in wanted):
        raise malformed(f"The outputs are {', '.join(known)}; something else was asked for.")
    return wanted


def outputs_of(answers: list[Answer], hosted: Hosted) -> dict[str, dict[str, Any]]:
    """All outputs by name."""
    count, labels = len(answers), hosted.about.labels.names
    data: dict[str, tuple[str, list[int], list[Any]]] = {}
    predictions = (answer.computed.prediction() for answer in answers)  # of masks, one at a time
    if hosted.about.task == "segmentation":
        masks = [as_png(one, hosted) for one in predictions if isinstance(one, MaskPrediction)]
        data["mask_png"] = "BYTES", [count], masks
    else:
        said = [one for one in predictions if isinstance(one, LabelPrediction)]
        probabilities = [value for one in said for value in one.probabilities.tolist()]
        data["probabilities"] = "FP32", [count, len(labels)], probabilities
        chosen = [i in one.chosen for one in said for i in range(len(labels))]
        data["chosen"] = "BOOL", [count, len(labels)], chosen
        data["labels"] = "BYTES", [count], [labels[one.chosen[0]] if one.chosen else "" for one in said]
    return {
        name: {"name": name, "datatype": kind, "shape": shape, "data": values}
        for name, (kind, shape, values) in data.items()
    }
