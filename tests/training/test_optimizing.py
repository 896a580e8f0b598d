import pytest
import torch
from tests.training.small import Sees

from lumora import LoraConfig, get_peft_model
from lumora.errors import CheckpointError
from lumora.training.optimizing import Optimizer, Rates


def adapted():
    torch.manual_seed(0)
    return get_peft_model(Sees(False), LoraConfig(r=2, target_modules=["stem", "mix"], modules_to_save=["classifier"]))


def take_steps(optimizer, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        for parameter in optimizer.parameters.values():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.set_factor(0.5)
        optimizer.torch.step()


def test_optimizer__moves_each_kind_of_weight_at_its_own_rate():
    model = adapted()
    optimizer = Optimizer(model, ("classifier",), Rates(general=0.01, head=0.02, second_factors=8.0, weight_decay=0.1))
    before = {name: p.detach().clone() for name, p in optimizer.parameters.items()}
    take_steps(optimizer, 1)
    rates = {"lora_A": 0.005, "lora_B": 0.04, "classifier": 0.01}
    assert len(before) == 6
    for name, parameter in optimizer.parameters.items():
        rate = next(rate for kind, rate in rates.items() if kind in name)
        decay = 0.0 if name.endswith("bias") else 0.1
        # AdamW's first step is the gradient's sign, beside the decay.
        expected = before[name] * (1 - rate * decay) - rate * parameter.grad.sign()
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-4, atol=1e-6)


def test_optimizer__goes_on_from_its_state_bit_for_bit():
    rates = Rates(0.01, 0.02, weight_decay=0.1)
    whole = Optimizer(adapted(), ("classifier",), rates)
    take_steps(whole, 3)
    first = Optimizer(adapted(), ("classifier",), rates)
    take_steps(first, 3)
    state = {name: tensor.clone() for name, tensor in first.state().items()}
    values = {name: p.detach().clone() for name, p in first.parameters.items()}
    second = Optimizer(adapted(), ("classifier",), rates)
    with torch.no_grad():
        for name, parameter in second.parameters.items():
            parameter.copy_(values[name])
    second.load(state)
    take_steps(whole, 2, seed=1)
    take_steps(second, 2, seed=1)
    assert all(torch.equal(p, second.parameters[name]) for name, p in whole.parameters.items())


def test_optimizer__refuses_the_memory_of_another_model():
    optimizer = Optimizer(adapted(), ("classifier",), Rates(0.01, 0.02))
    with pytest.raises(CheckpointError, match=r"remembers elsewhere\.weight.*start a new run"):
        optimizer.load({"optimizer.exp_avg.elsewhere.weight": torch.zeros(1)})
