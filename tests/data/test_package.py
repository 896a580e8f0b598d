import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lumora.data


def printed(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_import__brings_nothing_heavy():
    code = "import lumora.data, sys; print({'torch', 'numpy', 'PIL', 'torchvision', 'datasets'} & set(sys.modules))"
    assert printed(code) == "set()"


def test_labels__can_be_made_without_torch():
    code = "from lumora.data import Labels, ade20k; import sys; print(len(ade20k()), 'torch' in sys.modules)"
    assert printed(code) == "150 False"


@pytest.mark.slow
def test_names__come_each_without_the_others():
    code = """
import sys
import lumora.data
for name in lumora.data.__all__:
    for module in [module for module in sys.modules if module.startswith("lumora")]:
        del sys.modules[module]
    exec(f"from lumora.data import {name} as value")
    print(name, getattr(value, "__name__", value))
"""
    named = dict(line.split(" ", 1) for line in printed(code).splitlines())
    assert named == {name: name for name in lumora.data.__all__} | {"IGNORE": "255"}


def test_names__are_listed_and_others_refused():
    assert {"Cache", "Pictures", "Loader", "open_source", "Labels"} <= set(dir(lumora.data))
    with pytest.raises(AttributeError, match=r"module 'lumora.data' has no attribute 'Picturs'"):
        _ = lumora.data.Picturs  # type: ignore[attr-defined]


def test_names__are_the_ones_that_a_type_checker_sees():
    tree = ast.parse(Path(lumora.data.__file__).read_text())
    (guarded,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    seen = {alias.asname for node in guarded.body for alias in node.names}
    assert sorted(seen) == sorted(lumora.data.__all__)
