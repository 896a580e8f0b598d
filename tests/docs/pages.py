"""The code on the documentation's pages: found, run from top to bottom, and compared with what the page prints."""

import contextlib
import doctest
import io
import re
import warnings
from typing import NamedTuple

from lumora.errors import LumoraWarning

FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,})(?P<info>[^\n`]*)\n(?P<code>.*?)^(?P=indent)(?P=fence)\s*$", re.M | re.S
)


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


def run_page(page):
    """Run the blocks of a page in the present folder."""
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
