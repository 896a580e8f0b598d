"""A disk that takes no more is told, and what was there stays."""

import resource

import pytest
from tests.bundle.making import about_of, adapted, base_of, trained_whole
from tests.processes import in_a_process

from lumora.bundle import load, write
from lumora.bundle.writing import contents
from lumora.data.durable import write_folder


@pytest.mark.parametrize("method", ["lora", "full"])
def test_write__a_disk_that_takes_no_more_is_told(method, tmp_path):
    base, side = base_of("vit", tmp_path / "base")
    about = about_of(base, side, method)
    model = adapted(base) if method == "lora" else trained_whole(base)
    write(tmp_path / "bundle", model, about)
    before = {path.name: path.read_bytes() for path in (tmp_path / "bundle").iterdir()}
    fill = contents(model, about)

    def write_with_little_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        write_folder(tmp_path / "bundle", fill)

    answer = in_a_process(write_with_little_room)
    assert answer.startswith("OutputError: ")
    assert "File too large" in answer
    assert "ulimit -f" in answer
    assert {path.name: path.read_bytes() for path in (tmp_path / "bundle").iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "bundle"]
    assert load(tmp_path / "bundle").about == about
