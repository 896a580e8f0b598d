import pytest

from lumora.models.groups import collapse


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("head", "head"),
        ("seq.2", "seq.2"),
        ("layers.3.0.mlp.fc1", "layers.*.*.mlp.fc1"),
        ("0.weight", "*.weight"),
        ("layers.encoder_layer_11.mlp.0", "layers.encoder_layer_*.mlp.0"),
        ("block4.block4-10.f", "block4.block4-*.f"),
        ("layer1.conv2", "layer1.conv2"),
    ],
)
def test_collapse__indices_of_blocks_only(path, expected):
    assert collapse(path) == expected
