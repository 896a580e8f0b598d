"""Taking up a run in several processes: the first one reads the checkpoint and tells the others."""

from __future__ import annotations

import json

import safetensors.torch

from lumora.training.checkpoints import Checkpoint, Found
from lumora.training.folder import RunFolder
from lumora.training.processes import Processes


def newest_checkpoint(processes: Processes, folder: RunFolder) -> Found | None:
    """What `folder.resume()` gives, in every process; the others need not see the folder."""
    if processes.world == 1:
        return folder.resume()
    return _unpacked(processes.from_first(lambda: _packed(folder.resume())))


def _packed(found: Found | None) -> bytes:
    """A line of plain values, then tensors."""
    if found is None:
        return b""
    values = {"step": found.step, "notes": found.notes, "state": found.checkpoint.state}
    return json.dumps(values).encode() + b"\n" + safetensors.torch.save(found.checkpoint.tensors)


def _unpacked(content: bytes) -> Found | None:
    if not content:
        return None
    line, _, tensors = content.partition(b"\n")
    values = json.loads(line)
    return Found(Checkpoint(safetensors.torch.load(tensors), values["state"]), values["step"], tuple(values["notes"]))
