import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lumora.training


def printed(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_import__brings_nothing_heavy():
    code = "import lumora.training, sys; print({'torch', 'numpy', 'pydantic', 'yaml'} & set(sys.modules))"
    assert printed(code) == "set()"


def test_recipes__are_checked_and_filled_without_torch():
    code = "from lumora.training import Facts, Recipe, parse_asked, resolve; import sys; print('torch' in sys.modules)"
    assert printed(code) == "False"


def test_names__are_all_there_and_others_refused():
    assert [name for name in lumora.training.__all__ if not hasattr(lumora.training, name)] == []
    assert dir(lumora.training) == sorted(lumora.training.__all__)
    with pytest.raises(AttributeError, match=r"module 'lumora.training' has no attribute 'Recipy'"):
        _ = lumora.training.Recipy  # type: ignore[attr-defined]


def test_names__are_the_ones_that_a_type_checker_sees():
    tree = ast.parse(Path(lumora.training.__file__).read_text())
    (guarded,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    seen = {alias.asname for node in guarded.body for alias in node.names}
    assert sorted(seen) == sorted(lumora.training.__all__)
