"""The code on every page of the documentation runs, top to bottom, and prints what the page says it prints.

A block that needs the network or only shows a shape of code is fenced as `{ .python .no-run }`. A ```text block right
below a Python block is that block's output; `...` in it stands for anything. `pretrained=True` is read as False.
"""

import re
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from tests.docs.pages import Block, blocks, fences, run_page

from lumora.lora.layers import KINDS

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
SKIPPED_AT_MOST = 8


# Keras has an environment of its own: tests/keras/test_example.py runs its page.
ELSEWHERE = ROOT / "docs/guides/keras.md"
RUNNABLE = [page for page in PAGES if page != ELSEWHERE and any(True for _ in blocks(page.read_text(encoding="utf-8")))]
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
    with patch.dict(KINDS):  # a page adds a kind of layer
        run_page(page)


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
