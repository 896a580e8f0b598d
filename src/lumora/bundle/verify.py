"""Proving that a bundle can be used elsewhere: a fresh Python process loads it and compares what it gives.

`python -m lumora.bundle.verify FOLDER` is that process; it ends with 0, or says what is wrong.
"""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from lumora.bundle import names, proof, reading
from lumora.bundle.about import About
from lumora.bundle.locating import bundle_folder, read_about_in
from lumora.bundle.writing import contents
from lumora.data.durable import write_folder
from lumora.errors import BundleError, LumoraError
from lumora.lora import files

_SHOWN = 2000
_REFUSED = 3
"""How the process ends when the bundle is not as it should be."""
_BEFORE_MANIFEST = "--before-manifest"


def verify(folder: str | os.PathLike[str], *, base: str | nn.Module | None = None) -> None:
    """Load a bundle in a fresh process and compare its outputs with those of the model that it was written from.

    Costs a few seconds and the memory of one more model. A base that was given ready cannot be made again by another
    process: such a bundle is verified in this one, with the `base`.
    """
    home = bundle_folder(folder)
    reading.check_whole(home)
    _verify(home, base, whole=True)


def written_and_verified(
    folder: str | os.PathLike[str],
    model: nn.Module,
    about: About,
    *,
    thumbnail: Tensor | None = None,
    trained: Mapping[str, Tensor] | None = None,
    base: str | nn.Module | None = None,
) -> None:
    """Write a bundle that takes its place only once it was verified; the arguments are those of `write`.

    `base` says where the base lies now. For one that was given ready it is needed: the model as it was before training.
    """
    if about.base.library == "module" and base is None:
        raise BundleError(
            f"A {about.base.name} that was given ready cannot be made again to verify its bundle; give a copy of it "
            "from before the training: base=copy.deepcopy(model)"
        )
    fill = contents(model, about, thumbnail=thumbnail, trained=trained)
    # The writer of a bundle has asked for its base by name, a function included.
    again = base if base is not None else about.base.name if about.base.library == "python" else None

    def fill_and_verify(place: Path) -> None:
        fill(place)
        _verify(place, again, whole=False)

    write_folder(Path(folder), fill_and_verify)


def verify_before_manifest(home: Path, base: str | nn.Module | None = None) -> None:
    """The same for the files of a bundle that is still being written."""
    _verify(home, base, whole=False)


def _verify(home: Path, base: str | nn.Module | None, *, whole: bool) -> None:
    if base is None or isinstance(base, str):
        _in_fresh_process(home, base, whole=whole)
    else:
        check_outputs(home, base, whole=whole)


def check_outputs(home: Path, base: str | nn.Module | None = None, *, whole: bool = True) -> None:
    """Load a bundle in this process and compare its outputs with its proof."""
    check_proof(home, reading.load(home, base=base) if whole else reading.put_together(home, base=base))


def check_proof(home: Path, loaded: reading.Loaded) -> None:
    """Compare the outputs of a bundle that was loaded with its proof; costs a forward pass with two pictures."""
    expected = files.read_tensors_of_file(home / names.PROOF)
    proof.compare(expected, proof.prove(loaded.model, loaded.about), proof.tolerance_of(loaded.model))


def _in_fresh_process(home: Path, base: str | None, *, whole: bool) -> None:
    command = [sys.executable, "-P", "-m", "lumora.bundle.verify", str(home)]
    command += ["--base", base] if base is not None else []
    command += [] if whole else [_BEFORE_MANIFEST]
    # What can be imported here can be imported there.
    paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    ended = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": paths, "PYTHONIOENCODING": "utf-8", **_settings(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if ended.returncode == 0:
        return
    reason = (ended.stdout if ended.returncode == _REFUSED else ended.stderr).strip()[-_SHOWN:]
    if ended.returncode < 0:
        reason = f"it was ended by signal {-ended.returncode} (out of memory?)"
    raise BundleError(f"The bundle was written, but a fresh process does not get the same model from it: {reason}")


def _settings(home: Path) -> dict[str, str]:
    """What else the process is told: with Keras this one may hold all of a GPU's memory, so it computes on the CPU."""
    keras = read_about_in(home).base.library == "keras"
    return {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"} if keras else {}


def _main(arguments: Sequence[str]) -> int:
    parser = ArgumentParser("python -m lumora.bundle.verify", description="Check that a bundle gives what it should.")
    parser.add_argument("folder", type=Path, help="the bundle")
    parser.add_argument("--base", help="where the base lies now")
    parser.add_argument(_BEFORE_MANIFEST, action="store_true", help="while it is written: there is no manifest yet")
    asked = parser.parse_args(arguments)
    try:
        check_outputs(asked.folder, asked.base, whole=not asked.before_manifest)
    except LumoraError as error:
        sys.stdout.write(f"{error}\n")
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
