import copy
import inspect
import pickle

import pytest
import torch
import torch.distributed as dist
from tests.ops import tiny
from torch import nn

from lumora.errors import InputError
from lumora.ops import accelerate
from lumora.ops.swap import is_swapped, swap, swap_back


def test_report__says_what_was_changed():
    acceleration = accelerate(tiny.segformer())
    assert str(acceleration).splitlines() == [
        "2 modules made cheaper.",
        "  (the model) (SegformerForSemanticSegmentation) computes the loss in tiles, without full-size logits",
        "  decode_head (SegformerDecodeHead) runs the fusing convolution before the upsampling; "
        "folds the batch norm in evaluation",
    ]
    assert "computes its last block for the class token only" in str(accelerate(tiny.vit()))
    teacher = tiny.vit("DeiT", "ForImageClassificationWithTeacher")
    assert "for the 2 tokens that it reads only" in str(accelerate(teacher))


@pytest.mark.parametrize("build", [tiny.segformer, tiny.vit])
@pytest.mark.parametrize("adapt", [False, True], ids=["bare", "adapted"])
def test_undo__leaves_no_trace(build, adapt):
    model = build()
    if adapt:
        model = tiny.adapted(model, target_modules=["q_proj", "v_proj"])
    classes = {path: type(m) for path, m in model.named_modules()}
    attributes = {path: set(vars(m)) for path, m in model.named_modules()}
    state = {name: value.clone() for name, value in model.state_dict().items()}
    acceleration = accelerate(model)
    assert acceleration.changes
    assert list(model.state_dict()) == list(state)
    assert {path: set(vars(m)) for path, m in model.named_modules()} == attributes
    acceleration.undo()
    assert {path: type(m) for path, m in model.named_modules()} == classes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert str(acceleration) == "Nothing to make cheaper."


def test_undo__reaches_copies_that_adapters_train():
    model = tiny.segformer()
    acceleration = accelerate(model)
    tiny.adapted(model, target_modules=["q_proj"], modules_to_save=["decode_head"])
    assert sum(map(is_swapped, model.modules())) == 3
    acceleration.undo()
    assert not any(map(is_swapped, model.modules()))


def test_accelerate__a_second_time_finds_nothing():
    model = tiny.segformer()
    accelerate(model)
    again = accelerate(model)
    assert not again.changes
    again.undo()
    assert not any(map(is_swapped, model.modules()))


def test_accelerate__a_changed_model_passes_for_its_class():
    from transformers import SegformerForSemanticSegmentation

    model = tiny.segformer()
    plain = copy.deepcopy(model)
    accelerate(model)
    assert isinstance(model, SegformerForSemanticSegmentation)
    assert repr(model) == repr(plain) and str(type(model)) == str(type(plain))
    assert inspect.signature(model.forward) == inspect.signature(plain.forward)


def test_accelerate__a_changed_model_is_saved_and_loaded_as_ever(tmp_path):
    from transformers import SegformerForSemanticSegmentation

    model = tiny.segformer().eval()
    accelerate(model)
    model.save_pretrained(tmp_path)
    loaded = SegformerForSemanticSegmentation.from_pretrained(tmp_path).eval()
    assert loaded.config.architectures == ["SegformerForSemanticSegmentation"]
    assert not is_swapped(loaded)
    torch.testing.assert_close(model(tiny.pictures()).logits, loaded(tiny.pictures()).logits, rtol=1e-10, atol=1e-10)


def test_accelerate__copies_compute_alike_and_apart():
    model = tiny.segformer().eval()
    accelerate(model)
    twin = copy.deepcopy(model)
    assert type(twin) is type(model) and is_swapped(twin.decode_head)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert twin(tiny.pictures()).logits.any() and not model(tiny.pictures()).logits.any()
    swap_back(model)
    assert is_swapped(twin)


def test_accelerate__a_changed_module_can_be_pickled():
    model = tiny.segformer().eval()
    accelerate(model)
    head = pickle.loads(pickle.dumps(model.decode_head))
    assert type(head) is type(model.decode_head)


@pytest.mark.parametrize("build", [lambda: nn.Linear(2, 2), lambda: tiny.vit("Dinov2")], ids=["linear", "dinov2"])
def test_accelerate__leaves_what_it_does_not_know(build):
    acceleration = accelerate(build())
    assert str(acceleration) == "Nothing to make cheaper."


def test_accelerate__leaves_subclasses_with_a_forward_pass_of_their_own():
    from transformers import ViTForImageClassification

    class Mine(ViTForImageClassification):
        def forward(self, pixel_values):
            return self.vit(pixel_values).last_hidden_state.mean(1)

    model = Mine(tiny.vit().config)
    assert not accelerate(model).changes


def test_accelerate__says_when_a_known_model_is_built_otherwise():
    model = tiny.segformer()
    del model.decode_head.linear_fuse
    acceleration = accelerate(model)
    assert "left as it is: decode_head (SegformerDecodeHead) has no linear_fuse" in str(acceleration)
    model = tiny.vit()
    model.vit.layers[-1] = nn.Identity()
    acceleration = accelerate(model)
    assert "ends in a Identity" in str(acceleration) and not acceleration.changes
    model = tiny.vit()
    del model.vit.layers[-1].attention.o_proj
    assert "has no o_proj in its last block" in str(accelerate(model))


def test_accelerate__reaches_into_wrappers():
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = tiny.vit()

        def forward(self, x):
            return self.net(x).logits

    model = Wrapped().eval()
    expected = model(tiny.pictures(16, 16))
    acceleration = accelerate(model)
    assert [change.path for change in acceleration.changes] == ["net"]
    torch.testing.assert_close(model(tiny.pictures(16, 16)), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("build", [tiny.segformer, tiny.vit])
def test_accelerate__weights_that_lie_elsewhere_until_a_layer_runs_are_found(build):
    from accelerate import cpu_offload

    model = build().float().eval()
    size = 64 if build is tiny.segformer else 16
    pixels = tiny.pictures(size, size).float()
    expected = model(pixels).logits
    accelerate(model)
    cpu_offload(model, execution_device=torch.device("cpu"))
    torch.testing.assert_close(model(pixels).logits, expected)


def test_accelerate__verify_reaches_adapters_in_the_head():
    model = tiny.adapted(tiny.segformer(), target_modules=["linear_fuse", "proj", "q_proj"])
    accelerate(model)
    assert model.verify(pixel_values=tiny.pictures())


@pytest.mark.parametrize(("build", "size"), [(tiny.segformer, 64), (tiny.vit, 16)])
def test_accelerate__a_hook_on_all_modules_sees_what_it_saw_before(build, size):
    model = build().eval()
    seen = []

    def look(module, _inputs, output):
        seen.append((type(module).__name__, output.shape if isinstance(output, torch.Tensor) else None))

    with nn.modules.module.register_module_forward_hook(look):
        model(tiny.pictures(size, size))
        expected = seen.copy()
        seen.clear()
        accelerate(model)
        model(tiny.pictures(size, size))
    assert seen == expected


@pytest.fixture
def one_process():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield dist.device_mesh.init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.mark.parametrize(("build", "size"), [(tiny.segformer, 64), (tiny.vit, 16)])
def test_accelerate__a_model_that_is_sharded_as_a_whole_gives_the_same(build, size, one_process):
    from torch.distributed.fsdp import fully_shard

    model = build().float().eval()
    pixels = tiny.pictures(size, size).float()
    expected = model(pixels).logits
    acceleration = accelerate(model)
    fully_shard(model, mesh=one_process)
    torch.testing.assert_close(model(pixels).logits, expected)
    with pytest.raises(InputError, match=r"the model: given another class .* Call undo\(\) before"):
        acceleration.undo()
    assert acceleration.changes


def test_swap__is_seen_by_hooks_as_the_module_itself():
    module = nn.Linear(2, 2)
    swap(module, lambda self, plain, x: plain(x) + 1)
    seen = []
    module.register_forward_hook(lambda m, x, y: seen.append(y))
    x = torch.randn(3, 2)
    torch.testing.assert_close(module(x), nn.functional.linear(x, module.weight, module.bias) + 1)
    assert len(seen) == 1
    swap_back(module)
    assert type(module) is nn.Linear
