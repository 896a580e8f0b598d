"""What is installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def _major(package: str) -> int:
    try:
        return int(version(package).partition(".")[0])
    except PackageNotFoundError:
        return 0


is_transformers_ge_v5 = _major("transformers") >= 5
"""Whether transformers is version 5 or newer, in which many layers have other names."""

__all__ = ["is_transformers_ge_v5"]
