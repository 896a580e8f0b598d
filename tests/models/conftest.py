import pytest
import torch
import transformers


@pytest.fixture
def vit():
    """A vision transformer of a few thousand parameters."""
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32
    )
    return transformers.ViTForImageClassification(config)


@pytest.fixture
def vit_folder(vit, tmp_path):
    """The same as a checkpoint."""
    folder = tmp_path / "vit"
    vit.save_pretrained(folder)
    return folder
