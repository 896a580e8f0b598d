"""LoRA in a model from timm: poolformer_m36, whose linear layers are 1x1 convolutions.

    python examples/custom_timm.py

The model has random weights here, so that the example needs no network. For a real one, write

    base = timm.create_model("poolformer_m36.sail_in1k", pretrained=True, num_classes=3)
"""

from __future__ import annotations

import tempfile
from collections import Counter

import timm
import torch
import torch.nn.functional as F
from torch import nn

from lumora import LoraConfig, PeftModel, get_peft_model

# A string is one regular expression for the whole name, so this means mlp.fc1 and mlp.fc2 of every block.
TARGETS = r".*\.mlp\.fc\d"
HEAD = "head.fc"


def new_base() -> nn.Module:
    """Always the same base, with a head for three classes."""
    torch.manual_seed(0)
    return timm.create_model("poolformer_m36", pretrained=False, num_classes=3)


def adapt(base: nn.Module) -> PeftModel:
    """Adapters of rank 8 in every block's mlp; the head is trained whole."""
    return get_peft_model(base, LoraConfig(r=8, target_modules=TARGETS, modules_to_save=[HEAD]))


def main() -> PeftModel:
    base = new_base()

    # Which names are there? Layers that can be adapted, by the last part of their names.
    layers = {name: module for name, module in base.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    kinds = Counter((name.rpartition(".")[2], type(module).__name__) for name, module in layers.items())
    for (ending, kind), count in kinds.most_common():
        print(f"{count:3} x {ending:5} {kind}")
    print("for example:", [name for name in layers if ".mlp.fc" in name][:2])

    model = adapt(base)
    names = model.targeted_module_names
    print(f"\n{len(names)} layers adapted: {names[0]}, {names[1]}, ..., {names[-1]}")
    model.print_trainable_parameters()
    # PEFT's guide prints 1,064,454 (1.8851 %): it counted the frozen original of the head, 2,307 parameters.
    print(model.get_submodule("base_model.model." + names[0]))

    # A few steps, to see that it learns. Pictures are 224 x 224 in real life; 64 x 64 is enough here.
    pictures, labels = torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 2, 0])
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-3)
    for step in range(1, 4):
        loss = F.cross_entropy(model.train()(pictures), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step}: loss {loss.item():.3f}")

    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        model.eval().save_pretrained(folder)
        again = PeftModel.from_pretrained(new_base(), folder).eval()
        print("\nsaved and loaded again, same outputs:", torch.equal(again(pictures), model(pictures)))
    return model


if __name__ == "__main__":
    main()
