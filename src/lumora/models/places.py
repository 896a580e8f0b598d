"""Where a model or an adapter lies: in a folder here, in the Hub's cache, or on the Hub."""

from __future__ import annotations

import json
from pathlib import Path

from lumora.errors import HubError, LumoraError
from lumora.lora import files, hub
from lumora.models.similar import in_libraries, nearest
from lumora.paths import at_home

MODEL_CONFIG = "config.json"
SAFE = ".safetensors"
INDEX = ".index.json"
WEIGHTS = "model" + SAFE
PICKLED = "pytorch_model.bin"
ADAPTER_CONFIG = files.CONFIG


def is_adapter(name: str) -> bool:
    """Whether a folder or repository holds an adapter; if not, it holds a model."""
    return find(name, ADAPTER_CONFIG, MODEL_CONFIG).name == ADAPTER_CONFIG


def find(name: str, *wanted: str) -> Path:
    """The local path of the first of these files that a folder or a repository has.

    A cached copy is taken as it is; nothing is asked of the network then.
    """
    try:
        folder = at_home(name)
        here = folder.is_dir()
    except OSError as error:  # too long for a path
        raise LumoraError(f"{name[:80]!r} is neither a folder nor a repository on the Hub: {error}") from error
    if here:
        return _in_folder(folder, wanted)
    _check_looks_like_repository(name, folder)
    return _cached(name, wanted) or _fetched(name, wanted)


def weights(name: str) -> list[Path]:
    """The local files with the weights of a model; what is not cached is downloaded.

    Safetensors where there are any. Older checkpoints (`nvidia/mit-b0`) have only what torch wrote, a pickle: from that
    nothing but tensors may be read.
    """
    config = json.loads(find(name, MODEL_CONFIG).read_text(encoding="utf-8"))
    wanted = config.get("transformers_weights") or WEIGHTS
    found = _whole_or_in_shards(name, wanted, SAFE)
    if found is None and wanted == WEIGHTS:
        found = _whole_or_in_shards(name, PICKLED, Path(PICKLED).suffix)
    if found is None:
        other = f" and no {PICKLED}" if wanted == WEIGHTS else ""
        raise LumoraError(f"{name!r} has no {wanted}{other}: its weights are missing. Copy or save it whole.")
    return found


def _whole_or_in_shards(name: str, wanted: str, ending: str) -> list[Path] | None:
    """The file, or the shards that the index beside it lists; None without both."""
    if not wanted.endswith(INDEX) and (path := _of_kind(name, wanted, ending)) is not None:
        return [path]
    index = wanted if wanted.endswith(INDEX) else wanted + INDEX
    if (path := extra(name, index)) is None:
        return None
    shards = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
    found = {shard: _of_kind(name, shard, ending) for shard in shards}
    if lacking := [shard for shard, path in found.items() if path is None]:
        raise LumoraError(
            f"{name!r} lacks {', '.join(lacking)}, which its {index} lists; it was not saved or copied whole."
        )
    return [path for path in found.values() if path is not None]


def _of_kind(name: str, file: str, ending: str) -> Path | None:
    if not file.endswith(ending):
        raise LumoraError(
            f"{name!r} keeps its weights in {file}, where a file {'*' + ending} is expected; it was not opened."
        )
    return extra(name, file)


def extra(name: str, file: str) -> Path | None:
    """The local path of a file that a model may have; None without it. Raises `HubError` if that cannot be known."""
    folder = find(name, MODEL_CONFIG).parent
    if at_home(name).is_dir():
        return _if_there(folder / file)
    return repository_file(name, file, folder.name)


def repository_file(repository: str, file: str, revision: str | None = None) -> Path | None:
    """The local path of a file of a repository, the cached copy as it is; None if the repository has no such file."""
    found = _cached(repository, (file,), revision)
    return found or hub.fetch(repository, file, hub.HubOptions(revision=revision), required=False)


def is_here(name: str) -> bool:
    """Whether the weights of a checkpoint, in a folder or of a repository, can be had without the network."""
    files = (WEIGHTS, WEIGHTS + INDEX, PICKLED, PICKLED + INDEX)
    folder = at_home(name)
    if folder.is_dir():
        return any((folder / file).is_file() for file in files)
    return _cached(name, files) is not None


def _if_there(path: Path) -> Path | None:
    return path if path.is_file() else None


def _in_folder(folder: Path, wanted: tuple[str, ...]) -> Path:
    for file in wanted:
        if (folder / file).is_file():
            return folder / file
    inside = sorted(path.parent.name for path in folder.glob(f"*/{ADAPTER_CONFIG}"))
    hint = f" It holds adapters in folders of their own: {', '.join(inside)}; name one of those." if inside else ""
    raise LumoraError(f"The folder {str(folder)!r} has no {' and no '.join(wanted)}.{hint}")


def _check_looks_like_repository(name: str, folder: Path) -> None:
    if folder.exists():
        raise LumoraError(f"{name!r} is a file; give the folder that holds it.")
    here = name.startswith((".", "/", "~")) or ("/" in name and folder.parent.is_dir())
    if name.count("/") == 1 and not here:
        return
    siblings = [p.name for p in folder.parent.iterdir() if p.is_dir()] if folder.parent.is_dir() else []
    if "/" in name:
        hint = nearest(folder.name, siblings, f"{folder.parent}/")
    else:
        hint = in_libraries(name, siblings)
    raise LumoraError(
        f"There is no folder {name!r}{hint}. A repository on the Hub is called user/name; other models go by "
        "timm/NAME, torchvision/NAME or python:package.module:function."
    )


def _cached(name: str, wanted: tuple[str, ...], revision: str | None = None) -> Path | None:
    import huggingface_hub

    for file in wanted:
        try:
            path = huggingface_hub.try_to_load_from_cache(name, file, revision=revision)
        except ValueError:
            return None  # no name for a repository: `_fetched` says so
        if isinstance(path, str):
            return Path(path)
    return None


def _fetched(name: str, wanted: tuple[str, ...]) -> Path:
    try:
        # The last first: when the Hub cannot be reached, the message names the more common file.
        found = {file: hub.fetch(name, file, hub.HubOptions(), required=False) for file in reversed(wanted)}
    except HubError as error:
        cached = nearest(name, _cached_repositories())
        raise HubError(f"{error}{cached and ' Cached is something similar' + cached + '.'}") from error
    for file in wanted:
        if path := found[file]:
            return path
    raise LumoraError(f"The repository {name!r} has no {' and no '.join(wanted)}.")


def _cached_repositories() -> list[str]:
    import huggingface_hub
    from huggingface_hub.errors import CacheNotFound

    try:
        here = huggingface_hub.scan_cache_dir(huggingface_hub.constants.HF_HUB_CACHE)
        return [repository.repo_id for repository in here.repos]
    except CacheNotFound:
        return []
