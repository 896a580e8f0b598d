import json

import pytest

from lumora.training.origins import read_origins, write_origins
from lumora.training.rules.base import Origin

ORIGINS = {
    "lora.r": Origin("detected", 'fewer than 2,000, "few"'),
    "train.rate": Origin("default", "usual – üblich"),
    "data.path": Origin("asked", "asked for"),
}


def test_origins__are_read_as_they_were_written(tmp_path):
    write_origins(ORIGINS, tmp_path / "origins.json")
    assert read_origins(tmp_path / "origins.json") == ORIGINS
    assert json.loads((tmp_path / "origins.json").read_text())["lora.r"] == ["detected", 'fewer than 2,000, "few"']


@pytest.mark.parametrize("text", [None, "", "{", "[]", "[" * 100_000, b"\xff"])
def test_origins__that_are_none_are_left_out(tmp_path, text):
    if text is not None:
        (tmp_path / "origins.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert read_origins(tmp_path / "origins.json") == {}


def test_origins__of_which_some_are_none_are_the_others(tmp_path):
    found = {"a": ["asked", "so"], "b": ["guessed", "so"], "c": "asked", "d": ["asked", 3], "e": ["asked"]}
    (tmp_path / "origins.json").write_text(json.dumps(found))
    assert read_origins(tmp_path / "origins.json") == {"a": Origin("asked", "so")}
