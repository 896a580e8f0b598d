import errno
import io
import os
import re
import sys
from pathlib import Path

import pytest
from tests.cli.predictions import lines_of
from tests.data.making import noise, put
from tests.predict.making import bundle_of


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A bundle and pictures in the current folder."""
    bundle_of("vit", tmp_path)
    for i, name in enumerate(("a.png", "b.jpg", "[1].png", "one/x.png", "two/x.png", "two/deep/y.jpeg")):
        put(tmp_path / "pictures" / name, noise(40, 60, seed=i))
    (tmp_path / "pictures/notes.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def on_input(monkeypatch, content):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("pictures/*.png", {"[1]", "a"}),
        ("pictures/**/*.png", {"[1]", "a", "one/x", "two/x"}),
        ("pictures/*", {"[1]", "a", "b"}),
        ("pictures/[1].png", {"[1]"}),  # a file of that name goes before the pattern
        ("pictures/two/*/y.*", {"y"}),
    ],
)
def test_predict__patterns(lumora, here, pattern, found):
    assert lumora("predict", "bundle", pattern, "--out", "out").code == 0
    overlays = {line["overlay"] for line in lines_of(here / "out")}
    assert overlays == {f"overlays/{name}.jpg" for name in found}


def test_predict__a_pattern_that_nothing_fits(lumora, here):
    ended = lumora("predict", "bundle", "pictures/*.txt", "--out", "out")
    assert (ended.code, ended.out) == (2, "")
    assert "No picture fits 'pictures/*.txt'; 1 other files or folders do." in ended.told


@pytest.mark.parametrize("between", [b"\n", b"\0", b"\r\n"])
def test_predict__a_list_on_the_standard_input(lumora, here, monkeypatch, between):
    names = [b"pictures/a.png", b"pictures/one", b"pictures/two/deep/y.jpeg", b"pictures/a.png"]
    on_input(monkeypatch, between.join(names) + between)
    assert lumora("predict", "bundle", "-", "--out", "out").code == 0
    lines = lines_of(here / "out")
    assert [line["picture"] for line in lines] == [
        os.path.normpath(name) for name in ("pictures/a.png", "pictures/one/x.png", "pictures/two/deep/y.jpeg")
    ]
    assert {line["overlay"] for line in lines} == {"overlays/a.jpg", "overlays/one/x.jpg", "overlays/two/deep/y.jpg"}


def test_predict__what_is_missing_of_a_list_is_told_and_left_out(lumora, here, monkeypatch):
    (here / "empty").mkdir()
    on_input(monkeypatch, b"pictures/a.png\nmissing.png\nempty\n")
    ended = lumora("predict", "bundle", "-", "--out", "out")
    assert ended.code == 1
    assert "2 of 3 pictures cannot be used" in ended.err
    assert "There is no file or folder missing.png" in ended.err
    assert ["error" in line for line in lines_of(here / "out")] == [False, True, True]


def test_predict__paths_that_no_system_takes_are_told_and_left_out(lumora, here, monkeypatch):
    on_input(monkeypatch, b"pictures/a.png\n" + b"x" * 300 + b".png\n~nobody-is-called-so/b.png\n")
    ended = lumora("predict", "bundle", "-", "--out", "out")
    assert ended.code == 1
    assert "2 of 3 pictures cannot be used" in ended.err
    assert ["error" in line for line in lines_of(here / "out")] == [False, True, True]


def test_predict__a_folder_of_a_list_that_has_no_name_is_told_and_left_out(lumora, here, monkeypatch):
    (here / "empty").mkdir()
    monkeypatch.chdir(here / "empty")
    on_input(monkeypatch, b".\n../pictures/a.png\n")
    ended = lumora("predict", "../bundle", "-", "--skip-bad", "--out", "../out")
    assert ended.code == 0
    assert "1 of 2 pictures cannot be used; they were left out." in ended.told
    assert "There are no pictures in ." in ended.told
    assert ["error" in line for line in lines_of(here / "out")] == [True, False]


@pytest.mark.parametrize("compare", [False, True])
@pytest.mark.parametrize("given", ["x" * 300 + ".jpg", "x" * 300, "x" * 300 + "/*.jpg", "circle/a.jpg", "circle"])
def test_predict__paths_that_no_system_takes_are_a_misuse(lumora, here, given, compare):
    (here / "circle").symlink_to("circle")
    more = ("bundle", "--compare") if compare else ()
    ended = lumora("predict", "bundle", *more[:1], given, "--out", "out", *more[1:])
    assert (ended.code, ended.out) == (2, "")
    assert re.search("cannot be opened: |There is no file or folder |No picture fits ", ended.told)
    assert given in ended.told


def test_predict__a_folder_that_may_not_be_looked_into_is_a_misuse(lumora, here, monkeypatch):
    stat = Path.stat

    def closed(path, **options):
        if path.parent.name == "one":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", closed)
    ended = lumora("predict", "bundle", "pictures/one/x.png", "--out", "out")
    assert (ended.code, "pictures/one/x.png cannot be opened: Permission denied." in ended.told) == (2, True)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("~nobody-is-called-so.png", {"~nobody-is-called-so.png"}),
        ("~nobody*.png", {"~nobody-is-called-so.png"}),
        ("~root", {"~root/c.png"}),  # and not that user's folder
        ("~root/c.png", {"~root/c.png"}),
        ("-", {"~nobody-is-called-so.png", "~root/c.png"}),
    ],
)
def test_predict__files_whose_names_begin_as_those_of_users(lumora, here, monkeypatch, given, found):
    monkeypatch.chdir(here / "pictures")
    names = ("~nobody-is-called-so.png", "~root/c.png")
    for name in names:
        put(here / "pictures" / name, noise(40, 60))
    on_input(monkeypatch, "\n".join(names).encode())
    assert lumora("predict", here / "bundle", given, "--out", here / "out").code == 0
    assert {line["picture"] for line in lines_of(here / "out")} == found


def test_predict__users_folders_are_found(lumora, here, monkeypatch):
    monkeypatch.setenv("HOME", str(here / "pictures"))
    assert lumora("predict", "bundle", "~/one", "~/t*/x.png", "--out", "out").code == 0
    assert [line["picture"] for line in lines_of(here / "out")] == [
        str(here / "pictures" / name) for name in ("one/x.png", "two/x.png")
    ]
    ended = lumora("predict", "bundle", "~nobody-is-called-so/a.png", "--out", "other")
    assert (ended.code, "There is no file or folder ~nobody-is-called-so/a.png." in ended.told) == (2, True)


def test_predict__what_paths_lead_out_of_again_is_not_in_the_names_of_files(lumora, here, monkeypatch):
    on_input(monkeypatch, b"pictures/two/../../pictures/a.png\npictures/one/../one/x.png\n")
    assert lumora("predict", "bundle", "-", "--out", "out").code == 0
    assert [line["overlay"] for line in lines_of(here / "out")] == ["overlays/a.jpg", "overlays/one/x.jpg"]
    assert sorted(path.name for path in (here / "out").iterdir()) == [
        "overlays",
        "predictions.json",
        "predictions.jsonl",
    ]


def test_predict__a_picture_that_is_named_twice_is_predicted_once(lumora, here):
    same = ("pictures/one/x.png", here / "pictures/one/x.png", "pictures/two/../one/x.png", "pictures/one")
    assert lumora("predict", "bundle", *same, "--out", "out").code == 0
    assert len(lines_of(here / "out")) == 1


def test_predict__an_empty_list_is_a_misuse(lumora, here, monkeypatch):
    on_input(monkeypatch, b"\n")
    ended = lumora("predict", "bundle", "-", "--out", "out")
    assert (ended.code, "standard input is empty" in ended.err) == (2, True)


@pytest.mark.parametrize("palette", ["ade20k", "voc", "distinct", "mine.txt"])
def test_predict__palettes(lumora, tmp_path, palette):
    from PIL import Image

    from lumora.data.colours import distinct_colours
    from lumora.data.known_labels import ade20k, voc

    bundle = bundle_of("segformer", tmp_path)[0]
    put(tmp_path / "a.png", noise(64, 64))
    (tmp_path / "mine.txt").write_text("owl #010203\nred fox #040506\notter #070809\n")
    wanted = {
        "ade20k": ade20k().palette()[:3],
        "voc": voc().palette()[:3],
        "distinct": distinct_colours(3),
        "mine.txt": ((4, 5, 6), (7, 8, 9), (1, 2, 3)),
    }[palette]
    given = tmp_path / palette if palette.endswith("txt") else palette
    assert lumora("predict", bundle, tmp_path / "a.png", "--out", tmp_path / "out", "--palette", given).code == 0
    with Image.open(tmp_path / "out/masks/a.png") as mask:
        assert mask.getpalette()[:9] == [channel for colour in wanted for channel in colour]
    ended = lumora("predict", bundle, tmp_path / "a.png", "--out", tmp_path / "new", "--palette", "crayons")
    assert (ended.code, "cityscapes" in ended.err) == (2, True)


@pytest.mark.parametrize(
    ("given", "out", "refused"),
    [
        ("pictures/**/*.*", "pictures/out", True),
        ("pictures/**", "pictures/two/out", True),
        ("**/*.png", "out", True),
        ("-", "pictures/out", True),
        ("pictures/*", "pictures/out", False),
        ("pictures/one/**/*", "pictures/out", False),
        ("pictures/**/*.*", "out", False),
        ("-", "out", False),
    ],
)
def test_predict__refuses_a_place_that_is_among_the_pictures_the_next_time(
    lumora, here, monkeypatch, given, out, refused
):
    for _ in range(2):
        on_input(monkeypatch, b"pictures\npictures/a.png\n")
        ended = lumora("predict", "bundle", given, "--out", out)
        assert (ended.code, (here / out).exists()) == ((2, False) if refused else (0, True))
        assert ("lies within the pictures (" in ended.told) == refused


@pytest.mark.parametrize("given", ["out/overlays/a.jpg", "out/over*/*", "-", "link/overlays/a.jpg"])
def test_predict__pictures_do_not_lie_where_predictions_go(lumora, here, monkeypatch, given):
    assert lumora("predict", "bundle", "pictures/a.png", "--out", "out").code == 0
    (here / "link").symlink_to("out")
    for more in ([], ["--resume"]):
        on_input(monkeypatch, b"pictures/b.jpg\nout/overlays/a.jpg\n")
        ended = lumora("predict", "bundle", given, "--out", "out", *more)
        assert ended.code == 2
        assert re.search("overlays/a.jpg lies in out, .* name another folder|lies within the pictures", ended.told)
    assert (here / "out/overlays/a.jpg").is_file()
