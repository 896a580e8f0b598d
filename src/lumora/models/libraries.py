"""How each library's models are built, by the name that they have there."""

from __future__ import annotations

import importlib
import inspect
import pickle
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import safetensors.torch
import torch
from torch import nn

from lumora.errors import HubError, LumoraError
from lumora.models import checkpoints, embedded, places
from lumora.models.similar import nearest

if TYPE_CHECKING:
    from lumora.models.names import ModelName

_OTHER_WEIGHTS = {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"}
"""Arguments of timm's `create_model` that say where weights come from."""

_ONE_AT_A_TIME = threading.Lock()
"""Held while torchvision builds a model with weights."""


def transformers_model(name: str, *, meta: bool) -> nn.Module:
    """Build a model of transformers from a local folder or a repository on the Hub. Code in it is never run."""
    config = checkpoints.read_config(name)
    if checkpoints.is_timms(config):
        return timm_checkpoint(name, config, meta=meta)
    with checkpoints.building(name):
        cls = checkpoints.architecture(config)
        if meta:
            return on_meta(lambda: _model(cls._from_config(config), name))
    model, missing = checkpoints.load(cls, name, config)
    checkpoints.warn_of_missing(name, missing)
    return model


def timm_model(name: str, *, meta: bool, **options: Any) -> nn.Module:
    """Build a model of timm, by its name with or without the tag of its weights; `options` go to its constructor."""
    import timm

    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise LumoraError(f"timm has no model {architecture!r}{nearest(architecture, timm.list_models(), 'timm/')}.")
    tagged: list[str] = timm.list_pretrained(f"{architecture}.*")
    if tag and name not in tagged:
        raise LumoraError(f"timm's {architecture!r} has no weights {tag!r}{nearest(name, tagged, 'timm/', cutoff=0)}.")
    if meta:
        return on_meta(lambda: _model(timm.create_model(name, pretrained=False, **options), name))
    try:
        return _model(timm.create_model(name, pretrained=True, **_timm_file(name), **options), name)
    except HubError:
        raise
    except pickle.UnpicklingError as error:
        raise _more_than_tensors(f"timm's {name!r}") from error
    except (OSError, RuntimeError) as error:
        raise LumoraError(f"The weights of timm's {name!r} could not be loaded: {error}") from error


def timm_checkpoint(name: str, config: Any, *, meta: bool, **options: Any) -> nn.Module:
    """Build a model of timm from a checkpoint that timm, or transformers around it, wrote."""
    import timm

    if not timm.is_model(config.architecture):
        raise LumoraError(f"{name!r} is a model {config.architecture!r}, which timm {timm.__version__} does not know.")
    # What could name other weights than the checkpoint's own is left out.
    arguments = {n: v for n, v in (config.model_args or {}).items() if n not in _OTHER_WEIGHTS}
    arguments = {"num_classes": config.num_labels, **arguments, **options}

    def make() -> nn.Module:
        return timm.create_model(config.architecture, pretrained_cfg=config.pretrained_cfg, **arguments)

    if meta:
        return on_meta(make)
    model = make()
    tensors = {key.removeprefix("timm_model."): tensor for key, tensor in checkpoints.tensors(name).items()}
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise LumoraError(f"The weights of {name!r} do not fit timm's {config.architecture!r}: {error}") from error
    return model


def _timm_file(name: str) -> dict[str, Any]:
    """Where the weights lie, for timm; found, or fetched, as all other files are. Empty where timm has its own way."""
    import timm

    found: Any = timm.get_pretrained_cfg(name)
    if found is None or not found.hf_hub_id or found.hf_hub_filename or found.custom_load or found.source == "url":
        return {}
    path = places.repository_file(found.hf_hub_id, places.WEIGHTS)
    return {"pretrained_cfg_overlay": {"file": str(path)}} if path else {}


def torchvision_model(name: str, *, meta: bool) -> nn.Module:
    """Build a model of torchvision, with its default weights."""
    from torchvision import models

    check_torchvision(name)
    if not meta:
        return _model(_torchvision_pretrained(name), name)
    parameters = inspect.signature(models.get_model_builder(name)).parameters
    # Segmentation and detection models fetch their backbone's weights unless told otherwise.
    without = {option: None for option in ("weights", "weights_backbone") if option in parameters}
    return on_meta(lambda: _model(models.get_model(name, **without), name))


def _torchvision_pretrained(name: str) -> Any:
    """A model of torchvision with tensors that were read as such.

    Torchvision's own reading unpickles, with all that this can do, whatever lies in torch's cache. Here that file is
    read for its tensors alone, and the builder is given those when it asks its weights for them.
    """
    from torchvision import models

    weights: Any = models.get_model_weights(name).DEFAULT  # type: ignore[attr-defined]
    tensors = _torchvision_tensors(name)

    def read(**_options: Any) -> Any:
        return tensors

    with _ONE_AT_A_TIME, _torchvision_errors(name):
        weights.get_state_dict = read
        try:
            return models.get_model(name, weights=weights)
        finally:
            del weights.get_state_dict


def _torchvision_tensors(name: str) -> Any:
    """A model's pretrained tensors, downloaded if they are not here."""
    from torchvision import models

    weights: Any = models.get_model_weights(name).DEFAULT  # type: ignore[attr-defined]
    with _torchvision_errors(name):
        return weights.get_state_dict(progress=True, check_hash=True, weights_only=True)


@contextmanager
def _torchvision_errors(name: str) -> Generator[None]:
    """What goes wrong with pretrained weights, in words."""
    try:
        yield
    except pickle.UnpicklingError as error:
        raise _more_than_tensors(f"torchvision's {name!r}") from error
    except (OSError, RuntimeError) as error:
        raise LumoraError(f"The weights of torchvision's {name!r} could not be loaded: {error}") from error


def fetch_weights(name: ModelName) -> None:
    """Have the files with a model's pretrained weights here, unless its library has ways of its own to find them."""
    if name.library == "transformers":
        places.weights(name.rest)
    elif name.library == "timm":
        _timm_file(name.rest)
    elif name.library == "smp":
        smp_file(smp_options(name.rest)[1], places.WEIGHTS)
    elif name.library == "torchvision":
        check_torchvision(name.rest)
        if not weights_are_here(name):
            _torchvision_tensors(name.rest)


def weights_are_here(name: ModelName) -> bool:
    """Whether a model's pretrained weights can be loaded without the network."""
    if name.library == "transformers":
        return places.is_here(name.rest)
    if name.library == "timm":
        import timm

        found: Any = timm.get_pretrained_cfg(name.rest)
        return found is not None and bool(found.hf_hub_id) and places.is_here(found.hf_hub_id)
    if name.library == "torchvision":
        from torchvision import models

        weights: Any = models.get_model_weights(name.rest).DEFAULT  # type: ignore[attr-defined]
        return (Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name).is_file()
    return name.library == "lumora"


def check_torchvision(name: str) -> None:
    """Refuse a name that torchvision does not know."""
    from torchvision import models

    if name not in (known := models.list_models()):
        raise LumoraError(f"torchvision has no model {name!r}{nearest(name, known, 'torchvision/')}.")


def embedded_model(name: str, *, meta: bool, **options: Any) -> nn.Module:
    """Build a base that comes with Lumora; `options` go to the constructor in timm."""
    import timm

    known = embedded.timm_name(name)
    if meta:
        return on_meta(lambda: _model(timm.create_model(known, **options), name))
    model = _model(timm.create_model(known, **options), name)
    embedded.load_weights(model)
    return model


def smp_model(name: str, *, meta: bool) -> nn.Module:
    """Build a model of segmentation-models-pytorch: `unet?encoder=resnet34&weights=imagenet`."""
    architecture, options = smp_options(name)
    import segmentation_models_pytorch as smp

    encoder, weights = options["encoder"], options["weights"] or None
    if meta:
        return on_meta(lambda: _model(smp.create_model(architecture, encoder, None), name))
    path = smp_file(options, places.WEIGHTS)
    instead = f"name another encoder, or start from nothing: smp/{architecture}?encoder={encoder}&weights="
    if path is None and weights and encoder in smp.encoders.encoders:
        raise LumoraError(
            f"The weights {weights!r} of the encoder {encoder!r} are not in {places.WEIGHTS}, and Lumora opens no "
            f"pickles; {instead}"
        )
    try:
        if path is None:  # weights of timm, which smp loads by its own ways, or none
            return _model(smp.create_model(architecture, encoder, weights), name)
        model: Any = smp.create_model(architecture, encoder, None)
        model.encoder.load_state_dict(safetensors.torch.load_file(path))
    except pickle.UnpicklingError as error:
        raise _more_than_tensors(f"the encoder {encoder!r}") from error
    except (OSError, RuntimeError, KeyError) as error:
        raise LumoraError(
            f"The weights {weights!r} of the encoder {encoder!r} could not be loaded: {error}. Connect once, or "
            f"{instead}"
        ) from error
    return _model(model, name)


def smp_file(options: dict[str, str], file: str) -> Path | None:
    """The local path of a file of an encoder's pretrained weights; None without weights, or for encoders of timm."""
    import segmentation_models_pytorch as smp

    encoder, weights = options["encoder"], options["weights"]
    if not weights or encoder not in smp.encoders.encoders:
        return None
    known: dict[str, Any] = smp.encoders.encoders[encoder]["pretrained_settings"]
    if weights not in known:
        raise LumoraError(f"smp's encoder {encoder!r} has no weights {weights!r}; it has {', '.join(known)}.")
    return places.repository_file(known[weights]["repo_id"], file, known[weights]["revision"])


def smp_options(name: str) -> tuple[str, dict[str, str]]:
    """The architecture of a name, and its encoder and weights."""
    try:
        import segmentation_models_pytorch as smp
    except ImportError as error:
        raise LumoraError("Names with smp/ need segmentation-models-pytorch: pip install 'lumora[smp]'") from error
    architecture, _, query = name.partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := sorted(given.keys() - {"encoder", "weights"}):
        raise LumoraError(
            f"'smp/{name}' gives {', '.join(unknown)}; only encoder and weights can be given: smp/unet?encoder=resnet34"
        )
    known = list(smp.MODEL_ARCHITECTURES_MAPPING)
    if architecture not in known:
        raise LumoraError(f"smp has no model {architecture!r}{nearest(architecture, known, 'smp/')}.")
    options = {"encoder": "resnet34", "weights": "imagenet", **given}
    encoders = list(smp.encoders.encoders)
    if options["encoder"] not in encoders and not options["encoder"].startswith("tu-"):  # tu-: any model of timm
        raise LumoraError(f"smp has no encoder {options['encoder']!r}{nearest(options['encoder'], encoders)}.")
    return architecture, options


def python_model(name: str, *, meta: bool) -> nn.Module:
    """Call a function, or a class, that takes no arguments and returns a model: `package.module:factory`."""
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise LumoraError(f"'python:{name}' must name a function in a module: python:package.module:function.")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise LumoraError(f"{module_name!r} needs {error.name!r}, which is not installed.") from error
        raise LumoraError(f"There is no module {error.name!r} here or among the installed ones.") from error
    factory = getattr(module, attribute, None)
    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        public = [n for n in vars(module) if not n.startswith("_")]
        raise LumoraError(f"{module_name!r} has no function {attribute!r}{nearest(attribute, public)}.")
    if needed := _needed_arguments(factory):
        raise LumoraError(f"'python:{name}' must work without arguments, but needs {', '.join(needed)}.")
    return on_meta(lambda: _model(factory(), name)) if meta else _model(factory(), name)


def on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    """Build without memory for weights; with it, where a constructor computes with them."""
    try:
        with torch.device("meta"):
            return make()
    except (NotImplementedError, RuntimeError):
        return make()


def _more_than_tensors(whose: str) -> LumoraError:
    return LumoraError(
        f"The file with the weights of {whose} holds more than tensors, which could run any code; it was not opened. "
        f"Delete it, and it is downloaded again: it lies in {torch.hub.get_dir()} or in the Hub's cache."
    )


def _model(made: Any, name: str) -> nn.Module:
    if not isinstance(made, nn.Module):
        raise LumoraError(f"{name!r} gives a {type(made).__name__}; a torch.nn.Module is needed.")
    return made


def _needed_arguments(factory: Callable[..., Any]) -> list[str]:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:
        return []
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in optional]
