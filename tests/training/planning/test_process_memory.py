from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

CODE = """
import json, mmap, resource, sys
from lumora.training.planning import process_memory as memory
before = memory.most_held()
held = bytearray(200_000_000)
held[::4096] = b"x" * len(held[::4096])
del held
print(json.dumps([before, memory.most_held(), memory.held_now(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no module resource")
def test_most_held__remembers_what_was_given_back():
    printed = subprocess.run([sys.executable, "-c", textwrap.dedent(CODE)], capture_output=True, text=True, check=True)
    before, after, now, by_the_system = json.loads(printed.stdout)
    assert after - before > 190_000_000
    assert now is None or now < after - 150_000_000
    unit = 1 if sys.platform == "darwin" else 1024
    assert after <= by_the_system * unit + 1_000_000


def test_of_readers__is_nothing_without_any():
    from lumora.training.planning import process_memory

    assert process_memory.of_readers() == 0
