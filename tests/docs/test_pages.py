"""The code on every page of the documentation runs, top to bottom, and prints what the page says it prints.

A block that needs the network or only shows a shape of code is fenced as `{ .python .no-run }`. A ```text block right
below a Python block is that block's output; `...` in it stands for anything. `pretrained=True` is read as False.
"""

import contextlib
import doctest
import io
import re
import warnings
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from lumora.errors import LumoraWarning

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,})(?P<info>[^\n`]*)\n(?P<code>.*?)^(?P=indent)(?P=fence)\s*$", re.M | re.S
)
SKIPPED_AT_MOST = 8


class Block(NamedTuple):
    code: str
    line: int
    output: str | None


def fences(text):
    """(language and classes, content, first line of the content, where it starts, where it ends) of every fence."""
    for found in FENCE.finditer(text):
        indent = found["indent"]
        code = "".join(line.removeprefix(indent) for line in found["code"].splitlines(keepends=True))
        words = re.findall(r"[\w-]+", found["info"])
        yield words, code, text.count("\n", 0, found.start("code")) + 1, found.start(), found.end()


def blocks(text):
    """The Python blocks of a page that are to be run."""
    all_fences = list(fences(text))
    for i, (words, code, line, _, end) in enumerate(all_fences):
        if words[:1] != ["python"] or "no-run" in words:
            continue
        output = None
        if i + 1 < len(all_fences):
            next_words, next_code, _, start, _ = all_fences[i + 1]
            if next_words == ["text"] and not text[end:start].strip():
                output = next_code
        yield Block(code, line, output)


RUNNABLE = [page for page in PAGES if any(True for _ in blocks(page.read_text(encoding="utf-8")))]
TRAINS = re.compile(r"\b(finetune|lumora\.training|lumora\.bundle|export_onnx)\b")
"""What pages that train, convert or pack a real base have in their blocks: seconds for each."""


def case(page):
    trains = any(TRAINS.search(block.code) for block in blocks(page.read_text(encoding="utf-8")))
    return pytest.param(page, id=str(page.relative_to(ROOT)), marks=[pytest.mark.slow] if trains else [])


@pytest.mark.parametrize("page", [case(page) for page in RUNNABLE])
def test_page__runs_and_prints_what_it_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    torch.manual_seed(0)
    namespace = {"__name__": "page"}
    checker = doctest.OutputChecker()
    for block in blocks(page.read_text(encoding="utf-8")):
        printed = io.StringIO()
        offline = block.code.replace("pretrained=True", "pretrained=False")
        # Line numbers of the page itself in tracebacks.
        code = compile("\n" * (block.line - 1) + offline, str(page), "exec")
        with warnings.catch_warnings(), contextlib.redirect_stdout(printed):
            warnings.simplefilter("error", LumoraWarning)
            exec(code, namespace)
        if block.output is not None:
            flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            same = checker.check_output(block.output, printed.getvalue(), flags)
            assert same, f"{page.name}, line {block.line}, printed:\n{printed.getvalue()}"


def test_pages__few_blocks_are_not_run():
    skipped = [
        f"{page.relative_to(ROOT)}:{line}"
        for page in PAGES
        for words, _, line, _, _ in fences(page.read_text(encoding="utf-8"))
        if words[:1] == ["python"] and "no-run" in words
    ]
    assert len(skipped) <= SKIPPED_AT_MOST, skipped


def test_blocks__are_found_with_their_outputs_and_lines():
    page = """# Title
```python
print(1)
```

```text
1
```
``` { .python .no-run }
left out
```
!!! note
    ```python
    y = 2
    ```
"""
    assert list(blocks(page)) == [Block("print(1)\n", 3, "1\n"), Block("y = 2\n", 14, None)]
