import pytest
import transformers

from lumora.data import Labels
from lumora.data.known_labels import ade20k, voc
from lumora.data.label_files import label_list, read_labels
from lumora.errors import DataError


def test_labels__are_what_a_transformers_configuration_wants():
    labels = Labels(("sky", "sea"))
    config = transformers.ViTConfig(id2label=labels.id2label, label2id=labels.label2id)
    assert config.num_labels == 2
    assert config.id2label == {0: "sky", 1: "sea"}


def test_names__in_composed_and_decomposed_letters_are_the_same():
    labels = Labels(("cafe\u0301", "猫"))
    assert labels.names == ("caf\u00e9", "猫")
    assert labels.index("caf\u00e9") == labels.index("cafe\u0301") == 0
    with pytest.raises(DataError, match="more than once"):
        Labels(("caf\u00e9", "cafe\u0301"))


@pytest.mark.parametrize(
    ("names", "colours", "said"),
    [
        (("a", "a"), None, "'a' is there more than once"),
        (("a", " "), None, "Label 1 has no name"),
        (("a", "b"), ((0, 0, 0),), "2 labels and 1 colours"),
        (("a",), ((0, 0, 256),), "from 0 to 255"),
    ],
)
def test_bad_labels__are_refused(names, colours, said):
    with pytest.raises(DataError, match=said):
        Labels(names, colours)


def test_unknown_label__is_refused_with_the_nearest():
    with pytest.raises(DataError, match="no label 'cot'; did you mean 'cat'"):
        Labels(("cat", "dog")).index("cot")


def test_palette__is_pascal_vocs_and_tells_the_first_thousand_apart():
    assert Labels(("a", "b", "c")).palette() == ((0, 0, 0), (128, 0, 0), (0, 128, 0))
    assert len(set(Labels(tuple(map(str, range(1000)))).palette())) == 1000
    assert Labels(("a",), ((1, 2, 3),)).palette() == ((1, 2, 3),)


def test_known_labels__are_complete():
    assert len(voc()) == 21
    assert voc().palette()[15] == (192, 128, 128)  # person, as published
    assert len(ade20k()) == 150
    assert ade20k().names[:2] + ade20k().names[-1:] == ("wall", "building", "flag")
    assert ade20k().palette()[0] == (120, 120, 120)


RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.mark.parametrize(
    ("name", "text", "colours", "values"),
    [
        ("labels.txt", "sky\nsea\n", None, None),
        ("labels.txt", "\ufeffsky\r\n\r\nsea", None, None),
        ("labels.txt", "0: sky\n1: sea", None, None),
        ("labels.txt", "26: sea\n7: sky", None, (7, 26)),
        ("label_colors.txt", "255 0 0\tsky\n0 0 255\t\tsea\n", (RED, BLUE), None),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nsky:255,0,0::\nsea:0,0,255::\n", (RED, BLUE), None),
        ("labels.txt", "sky #ff0000\nsea #0000ff", (RED, BLUE), None),
        ("labels.txt", "__ignore__\nsky\nsea", None, None),
        ("class_dict.csv", "name,r,g,b\nsky,255,0,0\nsea,0,0,255\n", (RED, BLUE), None),
        ("classes.csv", "id;name;colour\n7;sky;#ff0000\n26;sea;#0000ff\n", (RED, BLUE), (7, 26)),
        ("classes.tsv", "Idx\tRatio\tName\n1\t0.1\tsky\n2\t0.2\tsea", None, (1, 2)),
        ("labels.json", '["sky", "sea"]', None, None),
        ("id2label.json", '{"0": "sky", "1": "sea"}', None, None),
        ("config.json", '{"id2label": {"0": "sky", "1": "sea"}}', None, None),
        ("labels.json", '{"sky": 7, "sea": 26}', None, (7, 26)),
        ("labels.json", '{"sky": [255, 0, 0], "sea": "#0000ff"}', (RED, BLUE), None),
        (
            "labels.json",
            '[{"id": 7, "name": "sky", "color": [255, 0, 0]}, {"id": 26, "name": "sea", "color": [0, 0, 255]}]',
            (RED, BLUE),
            (7, 26),
        ),
    ],
)
def test_list_of_labels__is_read_as_programs_write_it(name, text, colours, values, tmp_path):
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = read_labels(tmp_path / name)
    assert found.labels == Labels(("sky", "sea"), colours)
    assert found.values == values


@pytest.mark.parametrize("text", ["traffic light\nstop sign", "Ø\n猫"])
def test_list_of_labels__may_have_any_names(text, tmp_path):
    (tmp_path / "labels.txt").write_text(text, encoding="utf-8")
    assert read_labels(tmp_path / "labels.txt").labels.names == tuple(text.split("\n"))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("labels.txt", b"", "lists no labels; write one name on each line"),
        ("labels.json", b"{", "not valid JSON"),
        ("labels.json", b"3", "lists no labels"),
        ("labels.txt", b"a\na", "labels.txt: .*more than once"),
        ("labels.txt", b"\xff\xfe\x00", "UTF-8"),
        ("labels.json", b'{"a": 1, "b": 1}', "same number"),
    ],
)
def test_bad_list_of_labels__is_refused(name, content, said, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_labels(tmp_path / name)


def test_given_labels__may_be_names_a_mapping_a_file_or_known(tmp_path):
    (tmp_path / "l.txt").write_text("a\nb")
    two = Labels(("a", "b"))
    assert label_list(["a", "b"]).labels == label_list(two).labels == label_list(tmp_path / "l.txt").labels == two
    assert label_list({0: "a", 1: "b"}).labels == two
    assert label_list({"a": (0, 0, 0), "b": (9, 9, 9)}).labels.colours == ((0, 0, 0), (9, 9, 9))
    assert label_list("voc").labels == voc()
    with pytest.raises(DataError, match="labels is 3"):
        label_list(3)
    with pytest.raises(DataError, match=r"There is no file .*none\.txt that lists labels"):
        label_list(tmp_path / "none.txt")
