"""Settings of a whole process, so each case has a process of its own."""

import subprocess
import sys

import pytest

CODE = """
import torch
{setup}
def settings():
    b = torch.backends
    places = b, b.cuda.matmul, b.cudnn, b.cudnn.conv, b.cudnn.rnn, b.mkldnn.matmul, b.mkldnn.conv
    return [place.fp32_precision for place in places]

from lumora.bundle.precision import full_precision
before = settings()
with full_precision():
    assert {{settings()[i] for i in (1, 3, 4, 5, 6)}} == {{"ieee"}}, settings()
assert settings() == before
print(before)
{legacy}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setup", "legacy"),
    [
        ("", "assert torch.backends.cudnn.allow_tf32"),
        ("torch.set_float32_matmul_precision('high')", "assert torch.get_float32_matmul_precision() == 'high'"),
        ("torch.set_float32_matmul_precision('medium')", "assert torch.get_float32_matmul_precision() == 'medium'"),
        ("torch.backends.cudnn.allow_tf32 = False", "assert not torch.backends.cudnn.allow_tf32"),
        ("torch.backends.fp32_precision = 'tf32'", ""),
        ("torch.backends.cudnn.conv.fp32_precision = 'ieee'", ""),
    ],
)
def test_full_precision__is_given_back_however_it_was_set(setup, legacy):
    code = CODE.format(setup=setup, legacy=legacy)
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
