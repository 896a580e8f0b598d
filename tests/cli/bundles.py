"""Bundles for commands to use, and what is wrong with them."""

import os
import pickle
import sys
from pathlib import Path

from tests import warm
from tests.bundle.damaging import rewrite, without
from tests.tiny_models import save_vit

from lumora.bundle.about import FORMAT
from lumora.data.manifest import write_manifest

PROGRAM = Path(sys.executable).with_name("lumora")


def run(*arguments, code=0, **environment):
    """Run the program as a process; its result, after it has ended with `code`."""
    command = [sys.executable, "-P", "-m", "lumora", *map(str, arguments)]
    done = warm.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == code, done.stderr
    return done


def other_base(folder):
    """The base has other weights than in training; give the folder with bundle and base."""
    save_vit(folder / "base", seed=77)


def missing_head(folder):
    without(folder / "bundle", "adapter_model.safetensors", "classifier")


def newer_format(folder):
    rewrite(folder / "bundle", lambda values: values.update(format=FORMAT + 1))


def other_task(folder):
    rewrite(folder / "bundle", lambda values: values.update(task="segmentation"))


def damaged_file(folder):
    path = folder / "bundle/adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def missing_file(folder):
    (folder / "bundle/adapter_model.safetensors").unlink()


class Trap:
    """What opening a pickle of it does: it leaves a file behind."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return type(self.marker).touch, (self.marker,)


def a_pickle(folder):
    """A pickle under the adapter's name, of which the manifest says that it should be so."""
    trap = pickle.dumps(Trap(folder / "opened"))
    (folder / "bundle/adapter_model.safetensors").write_bytes(trap)
    write_manifest(folder / "bundle")


def only_a_pickle(folder):
    """A pickle in the adapter's place, as older programs have written it."""
    (folder / "bundle/adapter_model.safetensors").unlink()
    (folder / "bundle/adapter_model.bin").write_bytes(pickle.dumps(Trap(folder / "opened")))
    write_manifest(folder / "bundle")


REFUSED = {
    other_base: r"was made on '.*base' with the fingerprint sha256:\w+, but '.*base' has sha256:",
    missing_head: r"lacks 2 tensors of the head for classification: classifier",
    newer_format: rf"has format {FORMAT + 1}, written by Lumora .*; this version of Lumora reads format {FORMAT}",
    other_task: r"lacks \d+ tensors of the head for segmentation",
    damaged_file: r"is not as it was written(?s:.*)adapter_model\.safetensors is damaged",
    missing_file: r"is not as it was written(?s:.*)adapter_model\.safetensors is missing",
    a_pickle: r"adapter_model\.safetensors is damaged",
    only_a_pickle: r"has no adapter_model\.safetensors|is not as it was written(?s:.*)\.safetensors is missing",
}
"""What is done to a bundle, and what every command says of it."""
