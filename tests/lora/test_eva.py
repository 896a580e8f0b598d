"""EVA's directions against singular vectors of the inputs, computed here from the inputs themselves."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lumora import EvaConfig, LoraConfig, PeftModel, get_peft_model
from lumora.errors import ConfigError
from lumora.lora.eva import get_eva_state_dict, initialize_lora_eva_weights


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, padding_mode="reflect", stride=2, dilation=1),
        nn.ReLU(),
        nn.Flatten(2),
        nn.Linear(16, 10),
        nn.ReLU(),
        nn.Linear(10, 4),
    )


def batches() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(5, 3, 8, 8, generator=generator) for _ in range(6)]


def adapted(**eva: object) -> PeftModel:
    config = LoraConfig(r=2, target_modules=["0", "3", "5"], init_lora_weights="eva", eva_config=EvaConfig(**eva))  # type: ignore[arg-type]
    return get_peft_model(small_model(), config)


def leading_directions(rows: Tensor, k: int) -> Tensor:
    return torch.linalg.svd(rows.double(), full_matrices=False)[2][:k].float()


def test_eva__linear_directions_are_the_inputs_singular_vectors() -> None:
    model, data = adapted(rho=1.0, tau=1.0), batches()
    base = small_model()
    found = get_eva_state_dict(model, data)
    rows = torch.cat([base[:3](x) for x in data]).reshape(-1, 16)  # type: ignore[index]
    expected = leading_directions(rows, 2)
    assert torch.allclose((found["3"] * expected).sum(1).abs(), torch.ones(2), atol=1e-4)


def test_eva__convolution_directions_are_those_of_its_patches() -> None:
    found, data = get_eva_state_dict(adapted(rho=1.0, tau=1.0), batches()), torch.cat(batches())
    patches = F.unfold(F.pad(data, (1, 1, 1, 1), mode="reflect"), 3, stride=2).transpose(1, 2).reshape(-1, 27)
    expected = leading_directions(patches, 2)
    assert torch.allclose((found["0"] * expected).sum(1).abs(), torch.ones(2), atol=1e-4)


def test_eva__start_leaves_outputs_unchanged_and_round_trips(tmp_path: object) -> None:
    model, x = adapted(rho=3.0), batches()[0]
    before = model.eval()(x)
    initialize_lora_eva_weights(model, batches())
    assert torch.equal(model(x), before)
    ranks = {m.r["default"] for m in model.modules() if hasattr(m, "lora_A") and "default" in m.adapters}
    kept = [m for m in model.modules() if hasattr(m, "lora_A") and "default" in m.adapters]
    assert sum(m.r["default"] for m in kept) == 6
    assert len(ranks) > 1, "ranks should have moved to where they explain most"
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(str(tmp_path))
    again = PeftModel.from_pretrained(small_model(), str(tmp_path)).eval()
    assert torch.equal(again(x), model(x))


def test_eva__whitening_divides_by_the_standard_deviations() -> None:
    data = batches()
    plain, white = (get_eva_state_dict(adapted(rho=1.0, tau=1.0, whiten=w), data)["5"] for w in (False, True))
    rows = torch.cat([small_model()[:5](x) for x in data]).reshape(-1, 10).double()  # type: ignore[index]
    deviations = (torch.linalg.svdvals(rows)[:2] / (len(rows) - 1) ** 0.5).float()
    assert torch.allclose(white * deviations[:, None], plain, atol=1e-4)


def test_eva__scaling_is_kept_where_ranks_moved() -> None:
    model = adapted(rho=3.0)
    initialize_lora_eva_weights(model, batches())
    for layer in model.modules():
        if hasattr(layer, "lora_A") and "default" in layer.adapters:
            assert layer.scaling["default"] == pytest.approx(8 / 2)


def test_eva__refuses_an_adapter_with_another_start() -> None:
    model = get_peft_model(small_model(), LoraConfig(r=2, target_modules=["3"]))
    with pytest.raises(ConfigError, match="init_lora_weights='eva'"):
        initialize_lora_eva_weights(model, batches())
    with pytest.raises(ConfigError, match="either"):
        initialize_lora_eva_weights(adapted())
