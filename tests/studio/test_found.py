import os

from lumora.studio.found import bundle_folders, run_folders


def test_run_folders__finds_them_newest_first_and_none_that_is_hidden(tmp_path):
    for i, place in enumerate(("old", "deep/er/run", "new", ".hidden/run")):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "recipe.yaml").write_text("")
        os.utime(tmp_path / place / "recipe.yaml", (i, i))
    assert run_folders(tmp_path) == [tmp_path / "new", tmp_path / "deep/er/run", tmp_path / "old"]
    assert run_folders(tmp_path / "nowhere") == []


def test_bundle_folders__finds_those_of_runs(tmp_path):
    (tmp_path / "runs/one/bundle").mkdir(parents=True)
    (tmp_path / "runs/one/bundle/lumora.json").write_text("{}")
    assert bundle_folders(tmp_path / "runs") == [tmp_path / "runs/one/bundle"]
