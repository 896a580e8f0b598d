"""Two processes train what one process would: `DistributedDataParallel` and FSDP2, on the CPU."""

import copy

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from lumora import LoraConfig, PeftModel, get_peft_model
from lumora.lora.layers import LoraLayer

WORLD = 2


def new_base():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 16))


def adapted(**choice):
    config = LoraConfig(r=4, target_modules=["0"], modules_to_save=["2"], init_lora_weights=False, **choice)
    torch.manual_seed(1)
    return get_peft_model(new_base(), config)


def pictures():
    return torch.randn(8, 32, generator=torch.Generator().manual_seed(2))


def gradients_of_one_process(model):
    alone = copy.deepcopy(model)
    alone(pictures()).square().mean().backward()
    return {name: p.grad for name, p in alone.named_parameters() if p.requires_grad}


def in_two_processes(worker, folder, *arguments):
    mp.spawn(start, args=(worker, str(folder), arguments), nprocs=WORLD)


def start(rank, worker, folder, arguments):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    try:
        worker(rank, folder, *arguments)
    finally:
        dist.destroy_process_group()


def train_in_parallel(rank, folder, choice):
    model = adapted(**choice)
    expected = gradients_of_one_process(model)
    parallel = nn.parallel.DistributedDataParallel(model)
    parallel(pictures()[rank::WORLD]).square().mean().backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    torch.testing.assert_close(found, expected)
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad and p.grad is not None]
    assert frozen == []
    parallel.module.save_pretrained(f"{folder}/adapter", is_main_process=rank == 0)


def train_in_shards(rank, folder, choice):
    model = adapted(**choice)
    expected, output = gradients_of_one_process(model), model(pictures())
    mesh = init_device_mesh("cpu", (WORLD,))
    for layer in list(model.modules()):
        if isinstance(layer, LoraLayer):
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    torch.testing.assert_close(model(pictures()), output)
    model(pictures()[rank::WORLD]).square().mean().backward()
    found = {name: p.grad.full_tensor() for name, p in model.named_parameters() if p.requires_grad}
    torch.testing.assert_close(found, expected)
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    whole = get_model_state_dict(model, options=options)
    model.save_pretrained(f"{folder}/adapter", state_dict=whole, is_main_process=rank == 0)


@pytest.mark.slow
@pytest.mark.parametrize("worker", [train_in_parallel, train_in_shards])
@pytest.mark.parametrize("choice", [{}, {"use_dora": True}, {"bias": "lora_only"}], ids=["plain", "dora", "bias"])
def test_two_processes__have_the_gradients_of_one_and_save_the_same_adapter(worker, choice, tmp_path):
    in_two_processes(worker, tmp_path, choice)
    again = PeftModel.from_pretrained(new_base(), tmp_path / "adapter")
    torch.testing.assert_close(again(pictures()), adapted(**choice)(pictures()))
