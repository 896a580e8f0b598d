"""Changing bundles as somebody who knows how would."""

import json

import safetensors.torch

from lumora.data.manifest import write_manifest


def rewrite(folder, change):
    """Change `lumora.json`, and say in the manifest that it is so."""
    path = folder / "lumora.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")
    write_manifest(folder)


def without(folder, file, part):
    """Take tensors out of a file, and say in the manifest that it is so."""
    tensors = safetensors.torch.load_file(folder / file)
    kept = {name: tensor for name, tensor in tensors.items() if part not in name}
    assert len(kept) < len(tensors)
    safetensors.torch.save_file(kept, folder / file, {"format": "pt"})
    write_manifest(folder)
