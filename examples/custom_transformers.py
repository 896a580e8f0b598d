"""LoRA in a transformers model that no table of defaults knows.

    python examples/custom_transformers.py

PatchTSMixer tells time series apart without attention: there is no "query" or "value" to name. The steps are the same
for any new architecture: look at the names, choose, adapt, and let the model prove that every adapter takes part.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PatchTSMixerConfig, PatchTSMixerForTimeSeriesClassification

from lumora import LoraConfig, LumoraError, PeftModel, get_peft_model


def new_base() -> nn.Module:
    """A very small model with random weights, so that nothing is downloaded. A real one: `from_pretrained(name)`."""
    torch.manual_seed(0)
    config = PatchTSMixerConfig(
        context_length=64, patch_length=8, patch_stride=8, num_input_channels=3, num_targets=2, d_model=32, num_layers=2
    )
    return PatchTSMixerForTimeSeriesClassification(config)


def waves(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noisy waves of three channels: slow ones are class 0, fast ones class 1."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    time = torch.arange(64.0)[:, None] / (4 - 2 * labels.view(-1, 1, 1))
    phases = 6 * torch.rand(count, 1, 3, generator=draw)
    return torch.sin(time + phases) + 0.3 * torch.randn(count, 64, 3, generator=draw), labels


def main() -> PeftModel:
    base = new_base()

    # 1. Without target_modules, Lumora would have to know the architecture. It says what it found instead.
    try:
        get_peft_model(base, LoraConfig())
    except LumoraError as error:
        print(f"{type(error).__name__}: {error}\n")

    # 2. Where do these endings sit? One block is enough to see; all blocks look alike.
    for name, module in base.named_modules():
        if ".mixers.0." in name and isinstance(module, nn.Linear):
            print(f"{name:80} {module.in_features} -> {module.out_features}")

    # 3. Adapt what mixes: both layers of every mlp. The head is new and small: it is trained whole.
    config = LoraConfig(r=2, target_modules=["fc1", "fc2"], modules_to_save=["head.projection"])
    model = get_peft_model(base, config)
    print(f"\n{len(model.targeted_module_names)} layers adapted:")
    for name in model.targeted_module_names:
        print(" ", name)
    model.print_trainable_parameters()

    # 4. Does every adapter take part? One sample forward and backward tells.
    series, labels = waves(64, seed=1)
    print(model.verify(series[:1]))

    # 5. Train it like any other model.
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=0.01)
    for step in range(1, 41):
        loss = F.cross_entropy(model.train()(series).prediction_outputs, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            print(f"step {step}: loss {loss.item():.3f}")
    unseen, answers = waves(200, seed=2)
    with torch.no_grad():
        right = model.eval()(unseen).prediction_outputs.argmax(dim=1) == answers
    print(f"{right.float().mean():.0%} of 200 unseen series are right")
    return model


if __name__ == "__main__":
    main()
