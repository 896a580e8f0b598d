import json

import pytest

from lumora.training.whereabouts import note_place, place_from_here, place_of_data


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "project/flowers").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def test_place_of_data__is_where_they_lay_whoever_asks_from_where(project, tmp_path, monkeypatch):
    note_place(tmp_path / "run", "flowers")
    (tmp_path / "elsewhere/flowers").mkdir(parents=True)
    for folder in (project, tmp_path, tmp_path / "elsewhere"):
        monkeypatch.chdir(folder)
        assert place_of_data(tmp_path / "run", "flowers") == str(project / "flowers")
    assert place_from_here(tmp_path / "run", "flowers") == "flowers"  # something is called so here
    monkeypatch.chdir(tmp_path)
    assert place_from_here(tmp_path / "run", "flowers") == str(project / "flowers")
    assert place_of_data(tmp_path / "run", "roses") == "roses"  # of another recipe


def test_place_of_data__that_moved_together_with_the_run(project, tmp_path, monkeypatch):
    note_place(tmp_path / "run", "flowers")
    project.rename(tmp_path / "moved")
    assert place_of_data(tmp_path / "run", "flowers") == "flowers"
    monkeypatch.chdir(tmp_path)
    assert place_of_data(tmp_path / "run", "flowers") == str(project / "flowers")  # no name on the Hub
    note_place(tmp_path / "run", "flowers", tmp_path / "moved/flowers")
    assert place_of_data(tmp_path / "run", "flowers") == str(tmp_path / "moved/flowers")


@pytest.mark.parametrize("typed", [None, "user/dataset"])
def test_note_place__of_what_is_no_file_here_notes_nothing(project, tmp_path, typed):
    note_place(tmp_path / "run", typed)
    assert list((tmp_path / "run").iterdir()) == []
    assert place_of_data(tmp_path / "run", typed) == typed


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"data": "flowers", "place": 3})])
def test_place_of_data__leaves_out_what_is_no_note(project, tmp_path, text):
    (tmp_path / "run/.place.json").write_text(text)
    assert place_of_data(tmp_path / "run", "flowers") == "flowers"
