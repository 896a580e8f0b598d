import numpy as np
import pytest
from skimage.color import rgb2lab

from lumora.data import Labels
from lumora.data.colours import distinct_colours, least_difference
from lumora.data.known_labels import ade20k, cityscapes, voc
from lumora.data.labels import voc_colour
from lumora.data.palettes import coloured, read_palette
from lumora.errors import DataError

RED, BLUE, GREY = (255, 0, 0), (0, 0, 255), (90, 90, 90)


def apart(colours):
    """How different the two most alike are, in another space than the one that they are chosen in."""
    places = rgb2lab(np.array([colours], dtype=np.uint8))[0]
    distances = ((places[:, None] - places) ** 2).sum(-1) ** 0.5
    np.fill_diagonal(distances, np.inf)
    return distances.min()


@pytest.mark.parametrize("count", [5, 20, 60, 150])
def test_distinct_colours__are_farther_apart_than_vocs(count):
    vocs = [voc_colour(i) for i in range(count)]
    assert apart(distinct_colours(count)) > apart(vocs)
    assert least_difference(distinct_colours(count)) > 2 * least_difference(vocs)


def test_distinct_colours__stay_when_classes_are_added():
    assert distinct_colours(200)[:30] == distinct_colours(30)
    many = Labels(tuple(map(str, range(150)))).palette()
    assert Labels(tuple(map(str, range(60)))).palette() == many[:60]
    assert many[:21] == voc().palette()
    # Beyond VOC's own, none is as much like another as VOC's are.
    assert least_difference(many) == pytest.approx(least_difference(many[:21]))


def test_cityscapes__as_published():
    names = dict(zip(cityscapes().names, cityscapes().palette(), strict=True))
    assert len(names) == 19
    assert (names["road"], names["car"], names["bicycle"]) == ((128, 64, 128), (0, 0, 142), (119, 11, 32))


def test_coloured__by_name_in_any_order_and_spelling():
    labels = coloured(Labels(("Traffic-Light", "road", "unicorn")), "cityscapes")
    light, road, other = labels.palette()
    assert (light, road) == ((250, 170, 30), (128, 64, 128))
    assert other not in cityscapes().palette()
    assert least_difference([other, *cityscapes().palette()]) >= least_difference(cityscapes().palette())


def test_coloured__in_order_where_no_name_is_known():
    labels = coloured(Labels(("one", "two")), "ade20k")
    assert labels.palette() == ade20k().palette()[:2]
    with pytest.raises(DataError, match="it has 21 colours for 22 labels"):
        coloured(Labels(tuple(f"class {i}" for i in range(22))), "voc")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.txt", "sea #0000ff\nsky #ff0000\n"),
        ("p.txt", "255 0 0\n0, 0, 255\n#5a5a5a\n"),
        ("p.json", '{"sea": [0, 0, 255], "sky": [255, 0, 0]}'),
        ("p.json", '[[255, 0, 0], "#0000ff"]'),
        ("p.csv", "name,r,g,b\nsky,255,0,0\nsea,0,0,255\n"),
    ],
)
def test_coloured__from_a_file(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert coloured(Labels(("sky", "sea")), tmp_path / name).palette() == (RED, BLUE)


@pytest.mark.parametrize("name", ["distinct", "Distinct", "VOC"])
def test_coloured__names_are_known_in_any_case(name):
    assert coloured(Labels(("a", "b")), name) == coloured(Labels(("a", "b")), name.lower())


def test_coloured__given_colours():
    assert coloured(Labels(("a", "b")), [RED, BLUE, GREY]).palette() == (RED, BLUE)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file .* one of ade20k, cityscapes, voc, distinct"),
        ("sky\nsea\n", "does not give every label a colour"),
        ("#ff0000\n", "2 labels and 1 colours"),
        (b"\xff\xfe\xff", "Save it as text in UTF-8"),
    ],
)
def test_coloured__bad_files_are_told(tmp_path, content, said):
    path = tmp_path / "palette.txt"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=said):
        coloured(Labels(("sky", "sea")), path)


def test_coloured__what_is_no_colour_is_told():
    with pytest.raises(DataError, match="'crimson' is no colour"):
        coloured(Labels(("sky",)), ["crimson"])


def test_read_palette__keeps_the_names(tmp_path):
    (tmp_path / "p.txt").write_text("128 64 128 road\n70 70 70 building\n")
    assert read_palette(tmp_path / "p.txt").names == ("road", "building")
