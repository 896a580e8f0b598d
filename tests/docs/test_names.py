"""Names that the documentation promises exist where it says."""

import importlib
import importlib.util
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
ROW = re.compile(r"^\| `(lumora\.[\w.]+)` \| (.*) \|$", re.M)
ROWS = ROW.findall((DOCS / "reference/peft.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("module", "cell"), ROWS, ids=[module for module, _ in ROWS])
def test_reference__names_of_peft_are_at_their_places(module, cell):
    names = re.findall(r"`(\w+)`", cell)
    home = importlib.import_module(module)
    assert [name for name in names if not hasattr(home, name)] == []


def test_coming_from_peft__both_sides_of_the_table_exist():
    text = (DOCS / "coming-from-peft.md").read_text(encoding="utf-8")
    table = text[text.index("| in PEFT |") : text.index("Errors are caught")]
    missing = []
    for line in table.splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("|\n ").split("|")]
        if not cells[0].startswith("`peft."):
            continue
        first, *others = re.findall(r"`([\w.]+)`", cells[0])
        place, _, first = first.rpartition(".")
        for name in (first, *others):
            for module in (place, place.replace("peft", "lumora.peft", 1)):
                if not hasattr(importlib.import_module(module), name):
                    missing.append(f"{module}.{name}")
    assert missing == []


def test_menu__names_every_page():
    menu = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")]
    assert [page for page in pages if f": {page}\n" not in menu] == []


def test_doctests__become_fences():
    place = importlib.util.spec_from_file_location("doctests", DOCS / "doctests.py")
    doctests = importlib.util.module_from_spec(place)
    place.loader.exec_module(doctests)
    assert doctests.fenced("Adds.\n\n>>> 1 + 1\n2\n\nMore.") == "Adds.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nMore."
