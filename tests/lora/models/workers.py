"""What the processes of the distributed tests do. Imports little, since every process imports it anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lumora import LoraConfig, PeftModel, get_peft_model

WORLD = 2
BATCH = 4


class Net(nn.Module):
    """Every kind of adapted layer, a batch norm of the base, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.mix = nn.Conv2d(8, 8, 1)
        layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mix(self.stem(x)).flatten(2).transpose(1, 2)
        return self.head(self.encoder(x).mean(1))


def base() -> Net:
    torch.manual_seed(0)
    return Net().double()


def adapted(**options: Any) -> PeftModel:
    """The same model in every process, with factors that are not zero."""
    config = LoraConfig(
        **{
            "r": 2,
            "target_modules": ["stem.0", "mix", "self_attn", "linear1"],
            "modules_to_save": ["head"],
            "bias": "lora_only",
            **options,
        }
    )
    model = get_peft_model(base(), config)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape) / 3)
    return model.train()


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn(BATCH, 3, 4, 4, generator=generator), torch.randn(BATCH, 3, generator=generator)
    return x.double(), y.double()


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return (model(x) - y).square().mean()


def my_part(rank: int, *tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(t.chunk(WORLD)[rank] for t in tensors)


def start(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORLD)


def data_parallel(rank: int, folder: str) -> None:
    """Two steps with DDP; the first process writes the gradients and the adapter down."""
    start(rank, folder)
    model = adapted()
    parallel = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD([p for p in parallel.parameters() if p.requires_grad], lr=0.1)
    seen = []
    for _ in range(2):
        optimizer.zero_grad()
        loss_of(parallel, *my_part(rank, *batch())).backward()
        seen.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
        optimizer.step()
    if rank == 0:
        torch.save(seen, Path(folder) / "gradients.pt")
    parallel.module.save_pretrained(str(Path(folder) / "adapter"), is_main_process=rank == 0)
    dist.destroy_process_group()


def fully_sharded(rank: int, folder: str) -> None:
    """One step with FSDP2, then a gathered state dict, and a sharded model that loads what was saved."""
    from torch.distributed.checkpoint.state_dict import (
        StateDictOptions,
        get_model_state_dict,
        set_model_state_dict,
    )
    from torch.distributed.fsdp import fully_shard

    start(rank, folder)
    mesh = dist.init_device_mesh("cpu", (WORLD,))

    def sharded(model: PeftModel) -> PeftModel:
        for layer in model.get_base_model().encoder.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
        return model

    model = sharded(adapted())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    loss = loss_of(model, *my_part(rank, *batch()))
    loss.backward()
    gradients = {n: p.grad.full_tensor() for n, p in model.named_parameters() if p.grad is not None}
    optimizer.step()
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    whole = get_model_state_dict(model, options=options)
    model.save_pretrained(str(Path(folder) / "adapter"), is_main_process=rank == 0, state_dict=whole)
    dist.barrier()
    if rank == 0:
        torch.save(gradients, Path(folder) / "gradients.pt")
    # Loaded by every process before it is sharded.
    x, _ = batch()
    outputs = [model.eval()(x)]
    outputs.append(sharded(PeftModel.from_pretrained(base(), Path(folder) / "adapter")).eval()(x))
    # The same through a state dict that only the first process has.
    other = sharded(adapted(init_lora_weights=False)).eval()
    given = whole if rank == 0 else {}
    set_model_state_dict(
        other, given, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=True)
    )
    outputs.append(other(x))
    if rank == 0:
        torch.save([o.detach() for o in outputs], Path(folder) / "outputs.pt")
    dist.destroy_process_group()
