"""LoRA in a model of your own: a multilayer perceptron, trained for real on generated data.

    python examples/custom_mlp.py

Nothing here knows about transformers or pictures: any `nn.Module` with linear layers, convolutions, embeddings or
attention is adapted in the same way. Takes a few seconds on a laptop, no network.
"""

from __future__ import annotations

import tempfile

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lumora import LoraConfig, PeftModel, get_peft_model


class MLP(nn.Module):
    """Twenty numbers in, the log-probabilities of two classes out."""

    def __init__(self, hidden: int = 2000) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            nn.Linear(20, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 2),
            nn.LogSoftmax(dim=-1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Go through the layers: (N, 20) to (N, 2)."""
        return self.seq(x)


def new_base() -> MLP:
    """Always the same base: an adapter fits the weights it was trained on, and only those."""
    torch.manual_seed(0)
    return MLP()


def points(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points of the unit cube, and on which side of its middle they lie."""
    x = torch.rand(count, 20, generator=torch.Generator().manual_seed(seed))
    return x, (x.sum(dim=1) > 10).long()


def train_one_epoch(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> float:
    """Go through the data once, in batches of 64; return the mean loss."""
    model.train()
    total = 0.0
    for chosen in torch.randperm(len(x)).split(64):
        loss = F.nll_loss(model(x[chosen]), y[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(chosen)
    return total / len(x)


@torch.no_grad()
def score(model: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Loss and accuracy."""
    model.eval()
    output = model(x)
    return F.nll_loss(output, y).item(), (output.argmax(dim=1) == y).float().mean().item()


def main(epochs: int = 10) -> PeftModel:
    x, y = points(1000, seed=1)
    x_test, y_test = points(500, seed=2)
    base = new_base()

    # Which modules are there? These are the names to choose from.
    for name, module in base.named_modules():
        print(f"{name or '(the model)':12} {type(module).__name__}")

    # Two layers get adapters. The last one is small and has to learn the classes: it is trained whole and saved.
    config = LoraConfig(target_modules=["seq.0", "seq.2"], modules_to_save=["seq.4"])
    model = get_peft_model(base, config)
    print("\nadapted:", model.targeted_module_names)
    model.print_trainable_parameters()
    # PEFT's guide for this model prints 56,164 (1.3698 %). That counted the frozen original of seq.4, 4,002 parameters
    # which are kept but never trained. 52,162 is what learns; today's PEFT says the same.

    print("\nloss and accuracy before: {:.3f}, {:.1%}".format(*score(model, x_test, y_test)))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=0.002)
    for epoch in range(1, epochs + 1):
        print(f"epoch {epoch}: loss {train_one_epoch(model, optimizer, x, y):.3f}")
    print("loss and accuracy after: {:.3f}, {:.1%}".format(*score(model, x_test, y_test)))

    # Only what should move has moved.
    print("\nchanged by training:")
    for name, parameter in model.named_parameters():
        if not torch.equal(parameter, before[name]):
            print(f"  {name.removeprefix('base_model.model.'):36} {tuple(parameter.shape)}")

    # Save the adapter, put it onto a fresh base, and get the same outputs to the last bit.
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        again = PeftModel.from_pretrained(new_base(), folder).eval()
        same = torch.equal(again(x_test), model(x_test))
    print("\nsaved and loaded again, same outputs:", same)
    return model


if __name__ == "__main__":
    main()
