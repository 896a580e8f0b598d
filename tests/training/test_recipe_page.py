"""The documentation of recipes names every key, with what the code says of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lumora.training.rules import RULES
from lumora.training.rules.base import always
from lumora.training.schema.keys import SECTIONS, keys
from lumora.training.schema.yaml_files import plain, written

PAGE = Path(__file__).parents[2] / "docs" / "features" / "recipes.md"
HEAD = "| key | what it means | what it may be | when nothing is said |\n|---|---|---|---|\n"


def table(section):
    """The table of a section, as the page has to show it."""
    return HEAD + "".join(row(key) for key in keys().values() if key.section == section)


def row(key):
    rule = RULES[key.name]
    chosen = f"`{written(plain(rule.value))}`" if isinstance(rule, always) else (rule.__doc__ or "").split("\n")[0]
    chosen = chosen[0].lower() + chosen[1:].rstrip(".")
    takes = re.sub(r'"([^"]+)"', r"`\1`", key.words)
    return f"| `{key.name}` | {key.description} | {takes} | {chosen} |\n"


@pytest.mark.parametrize("section", SECTIONS)
def test_page__has_the_table_of_every_section(section):
    page = PAGE.read_text(encoding="utf-8")
    assert f"### {section}\n" in page
    assert table(section) in page, f"the table should be:\n{table(section)}"


def test_page__has_no_cell_that_would_be_taken_for_attributes():
    # Braces at the end of a cell are attributes of the cell, not text.
    assert re.findall(r"\} \|", PAGE.read_text(encoding="utf-8")) == []
