"""What a folder holds, in a file of its own, so that any damage can be told: the size and SHA-256 of every file.

{"lumora_manifest": 1, "files": {"weights.safetensors": {"size": 1234, "sha256": "…"}}}
"""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path, PurePosixPath
from typing import Any

MANIFEST = "manifest.json"
_MARK = "lumora_manifest"
_FORMAT = 1


def write_manifest(folder: Path) -> None:
    """Write down every file that is in the folder, and in the folders in it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    files = {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": _digest(path)} for path in paths
    }
    text = json.dumps({_MARK: _FORMAT, "files": files}, indent=2) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def has_manifest(folder: Path) -> bool:
    """Whether there is a manifest of ours, whatever it says."""
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and _MARK in content


def names_in(folder: Path) -> frozenset[str] | None:
    """The files that the manifest names, with slashes; None without a manifest of ours that can be read."""
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return frozenset(content["files"]) if _is_sound(content) else None


def differences(folder: Path) -> list[str]:
    """How the folder differs from its manifest, in words; files that it does not name are not looked at."""
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        return [f"{MANIFEST} is missing"]
    except OSError as error:
        return [f"{MANIFEST} cannot be read: {error.strerror}"]
    except (ValueError, RecursionError):
        return [f"{MANIFEST} is damaged"]
    if isinstance(content, dict) and isinstance(content.get(_MARK), int) and content[_MARK] > _FORMAT:
        return [f"{MANIFEST} has format {content[_MARK]}, of a newer Lumora; this one knows {_FORMAT}"]
    if not _is_sound(content):
        return [f"{MANIFEST} is damaged"]
    found = (_difference(folder, name, noted["size"], noted["sha256"]) for name, noted in content["files"].items())
    return [difference for difference in found if difference]


def _is_sound(content: Any) -> bool:
    return (
        isinstance(content, dict)
        and content.get(_MARK) == _FORMAT
        and isinstance(content.get("files"), dict)
        and all(_is_inside(name) and isinstance(noted, dict) for name, noted in content["files"].items())
        and all(isinstance(noted.get("size"), int) and "sha256" in noted for noted in content["files"].values())
    )


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _difference(folder: Path, name: str, size: int, digest: object) -> str | None:
    path = folder / name
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return f"{name} is no file"
        if status.st_size != size:
            return f"{name} has {status.st_size:,} bytes in place of {size:,}"
        return None if _digest(path) == digest else f"{name} is damaged: its SHA-256 is not that of {MANIFEST}"
    except FileNotFoundError:
        return f"{name} is missing"
    except OSError as error:
        return f"{name} cannot be read: {error.strerror}"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
