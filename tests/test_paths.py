from pathlib import Path

from lumora.paths import at_home


def test_at_home__puts_the_users_folder_in(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert at_home("~/runs/pets") == tmp_path / "runs/pets"
    assert at_home(Path("runs/~pets")) == Path("runs/~pets")


def test_at_home__of_somebody_unknown_is_a_path_like_any_other():
    assert at_home("~nobody-is-called-so/run") == Path.cwd() / "~nobody-is-called-so/run"
