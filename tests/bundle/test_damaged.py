"""Files of a bundle that are not as they were written are refused, and pickles are never opened."""

import os
import pickle

import pytest
from tests.bundle.damaging import rewrite
from tests.bundle.making import about_of, adapted, base_of, trained_whole

from lumora.bundle import load, read_about, write
from lumora.bundle.about import FORMAT
from lumora.bundle.verify import check_outputs
from lumora.data.manifest import write_manifest
from lumora.errors import BundleError, LumoraError


def test_format__a_newer_one_is_refused(vit):
    folder, _, _ = vit
    rewrite(folder, lambda values: values.update(format=FORMAT + 1))
    for read in (load, read_about):
        with pytest.raises(BundleError, match=rf"lumora\.json has format {FORMAT + 1}, .* reads format {FORMAT}\."):
            read(folder)


NEEDED = ["adapter_config.json", "adapter_model.safetensors", "lumora.json", "proof.safetensors"]


@pytest.mark.parametrize("name", NEEDED)
def test_file__with_one_changed_byte_is_refused(name, vit):
    folder, _, _ = vit
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError, match=rf"not as it was written; nothing was loaded\..*\n  - {name} is damaged"):
        load(folder)


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("length", [0, 100])
def test_file__cut_short_is_refused(name, length, vit):
    folder, _, _ = vit
    os.truncate(folder / name, length)
    with pytest.raises(BundleError, match=rf"  - {name} has {length} bytes in place of"):
        load(folder)


@pytest.mark.parametrize("name", [*NEEDED, "manifest.json"])
def test_file__that_is_missing_is_told(name, vit):
    folder, _, _ = vit
    (folder / name).unlink()
    with pytest.raises(BundleError, match=rf"{name}"):
        load(folder)


@pytest.mark.parametrize("name", NEEDED)
def test_file__damaged_before_the_manifest_was_written_is_refused(name, vit):
    """The manifest says nothing then; the files speak for themselves."""
    folder, _, _ = vit
    os.truncate(folder / name, 100)
    write_manifest(folder)
    if name == "proof.safetensors":
        return  # only verifying reads it
    with pytest.raises(BundleError, match=r"damaged|is not JSON"):
        load(folder)


def test_file__for_people_may_be_edited(vit):
    folder, _, about = vit
    (folder / "README.md").write_text("My own words.")
    assert load(folder).about == about
    (folder / "README.md").unlink()
    assert load(folder).about == about


def test_folder__that_is_no_bundle_is_told(vit, tmp_path):
    folder, model, _ = vit
    model.save_pretrained(tmp_path / "adapter")
    for place, message in [
        (tmp_path / "adapter", r"it has no lumora\.json\. It holds an adapter alone"),
        (tmp_path, rf"it has no lumora\.json\. There is one in {folder}"),
        (folder / "lumora.json", "is no folder"),
        (tmp_path / "missing", r"neither a folder here nor the name of a repository"),
    ]:
        with pytest.raises(BundleError, match=message):
            load(place)


class Trap:
    """What opening a pickle of it does: it leaves a file behind."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return type(self.marker).touch, (self.marker,)


@pytest.mark.parametrize("method", ["lora", "head"])
def test_pickles__are_never_opened(method, tmp_path):
    base, side = base_of("vit", tmp_path / "base")
    model = adapted(base) if method == "lora" else trained_whole(base, only_head=True)
    about = about_of(base, side, method)
    write(tmp_path / "bundle", model, about)
    trap = pickle.dumps(Trap(tmp_path / "opened"))
    for name in ("adapter_model.bin", "pytorch_model.bin", "training_args.bin", "weights.pt", "lumora.pkl"):
        (tmp_path / "bundle" / name).write_bytes(trap)
    assert load(tmp_path / "bundle").about == about
    for path in (tmp_path / "bundle").glob("*.safetensors"):
        path.unlink()
    write_manifest(tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"has no (adapter_model|weights)\.safetensors, no proof\.safetensors"):
        load(tmp_path / "bundle")
    assert not (tmp_path / "opened").exists()
    pickle.loads(trap)
    assert (tmp_path / "opened").exists()


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "proof.safetensors"])
def test_pickles__under_another_name_are_damaged_files(name, vit, tmp_path):
    folder, _, _ = vit
    (folder / name).write_bytes(pickle.dumps(Trap(tmp_path / "opened")))
    write_manifest(folder)
    with pytest.raises(LumoraError, match=rf"{name} is damaged"):
        check_outputs(folder)
    assert not (tmp_path / "opened").exists()
