"""Pictures that a training learns from in a second, and the options that let it."""

from PIL import Image
from tests.training.small import NAMES, Drawn

QUICK = [
    *("--epochs", "2"),
    *("--set", "train.batch_size=4"),
    *("--set", "pictures.size=32"),
    *("--set", "lora.r=2"),
    *("--set", "lora.targets=conv_pw"),
    *("--set", "data.near_duplicates_together=false"),
]


def write_classes(folder, count=15):
    """So many small pictures in folders named after their colour."""
    for i in range(count):
        (folder / NAMES[i % 3]).mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(Drawn(i).picture().permute(1, 2, 0).numpy()).resize((40, 40))
        picture.save(folder / NAMES[i % 3] / f"{i}.png")
    return folder
