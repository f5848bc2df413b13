"""Python on a GPU: where it runs, what is shared and who waits. Without a GPU: what is said."""

import copy
import pathlib
import re
import subprocess
import sys

import numpy as np
import poolgrad as pg
import pytest
import torch

MISSING = pg._poolgrad.cuda_missing()  # why there is none


@pytest.fixture
def gpu():
    if MISSING:
        pytest.skip(f"no GPU: {MISSING}")


def library(name):
    """CuPy or JAX, if they are there and see a GPU."""
    module = pytest.importorskip(name)
    if name == "jax" and not any(d.platform == "gpu" for d in module.devices()):
        pytest.skip("this JAX sees no GPU")
    return module


BATCH = 8


def net():
    return pg.nn.Sequential(pg.nn.Linear(12, 16), pg.nn.ReLU(), pg.nn.Linear(16, 10))


def compiled(device, model=None, **options):
    model = model or net()
    step = pg.compile(
        model, optimizer=pg.optim.Adam(lr=0.01), batch=(BATCH, 12), device=device, **options
    )
    return model, step


def batch(seed):
    generator = np.random.default_rng(seed)
    return generator.random((BATCH, 12), np.float32), generator.integers(0, 10, BATCH)


def train(step, first, last):
    return [step(*batch(i)) for i in range(first, last)]


def values(tensor):
    return np.array(torch.from_dlpack(tensor).cpu())


# ---- without a GPU, and everywhere


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:3"])
@pytest.mark.parametrize("kind", [str, torch.device])
@pytest.mark.skipif(MISSING is None, reason="there is a GPU")
def test_a_device_that_cannot_be_used_is_told_why_and_the_model_is_as_before(name, kind):
    model = net()
    why = rf"device: {name if ':' in name else name + ':0'} cannot be used: {re.escape(MISSING)}"
    with pytest.raises(RuntimeError, match=why + ".* use the CPU"):
        compiled(kind(name), model)
    _, step = compiled("cpu", model)
    assert np.isfinite(train(step, 0, 2)).all()


def test_a_gpu_that_is_not_there_is_told():
    told = "cannot be used" if MISSING else r"there is no cuda:99; the last one is cuda:\d+"
    with pytest.raises(RuntimeError, match=rf"device: .*{told}"):
        compiled("cuda:99")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "cuda:1x", "CUDA", ""])
def test_no_device_has_such_a_name(name):
    with pytest.raises(ValueError, match=re.escape(f"device: '{name}' is unknown; 'cpu', 'cuda'")):
        compiled(name)


def test_how_many_there_are_and_why_none_agree():
    assert pg.cuda.is_available() == (pg.cuda.device_count() > 0) == (MISSING is None)


def test_tensors_of_the_cpu_have_no_cuda_interface_and_its_steps_no_streams():
    model, step = compiled("cpu")
    assert not hasattr(model.state_dict()["0.weight"], "__cuda_array_interface__")
    with pytest.raises(ValueError, match="the program runs on the CPU, which has none"):
        step.wait_for(1)
    step.wait_for()


class OnGpu:
    """Claims to lie there, by one of the two ways."""

    def __init__(self, data):
        self.__cuda_array_interface__ = {
            "shape": (BATCH, 12), "typestr": "<f4", "data": (data, False), "version": 3,
        }  # fmt: skip


@pytest.mark.skipif(MISSING is None, reason="there is a GPU, on which the address is none")
def test_an_array_on_a_gpu_does_not_come_to_the_cpu_unseen():
    _, step = compiled("cpu")
    with pytest.raises(BufferError, match="x: the array lies on cuda:0 but is wanted on cpu"):
        step(OnGpu(4096), batch(0)[1])
    assert np.isfinite(step(*batch(0)))


def test_the_allocators_are_in_the_extension_or_said_to_be_missing():
    if not hasattr(pg._poolgrad, "cuda_allocator"):
        with pytest.raises(RuntimeError, match="allocator_library: this build has no CUDA"):
            pg.cuda.allocator_library()
        return
    import ctypes

    allocators = ctypes.CDLL(pg.cuda.allocator_library())
    addresses = [
        ctypes.cast(function, ctypes.c_void_p).value
        for function in (allocators.poolgrad_cuda_alloc, allocators.poolgrad_cuda_free)
    ]
    assert addresses == list(pg._poolgrad.cuda_allocator)
    if MISSING:  # C has no other way to say so
        allocators.poolgrad_cuda_alloc.restype = ctypes.c_void_p
        assert allocators.poolgrad_cuda_alloc(ctypes.c_ssize_t(64), 0, None) is None


def test_the_shared_pool_example_runs_or_says_what_it_lacks():
    example = pathlib.Path(__file__).parents[2] / "examples" / "05_shared_pool.py"
    shown = subprocess.run(
        [sys.executable, example], capture_output=True, text=True, check=True, timeout=300
    ).stdout
    parts = dict(line.split(": ", 1) for line in shown.splitlines())
    assert list(parts) == ["torch", "cupy", "rmm"]
    right = {"torch": "1048576.0", "cupy": "1048576.0", "rmm": str(1 << 22)}
    for name, said in parts.items():
        expected = {"no GPU that this build of poolgrad can use"} if MISSING else {
            right[name], "not installed"
        }  # fmt: skip
        assert said in expected


# ---- on a GPU


def test_a_step_gives_the_cpus_losses(gpu):
    _, there = compiled("cuda")
    _, here = compiled("cpu")
    assert np.allclose(train(there, 0, 5), train(here, 0, 5), rtol=0, atol=1e-4)


def test_predictions_and_evaluation_are_the_cpus(gpu):
    _, there = compiled("cuda")
    _, here = compiled("cpu")
    x, y = batch(0)
    assert np.allclose(values(there.predict(x)), values(here.predict(x)), atol=1e-5)
    assert np.allclose(there.evaluate(x, y), here.evaluate(x, y), atol=1e-5)


def test_torch_opens_every_weight_where_it_lies(gpu):
    model, _ = compiled("cuda")
    for weight in model.state_dict().values():
        theirs = torch.from_dlpack(weight)
        assert theirs.is_cuda
        assert theirs.data_ptr() == weight.data_ptr()
        assert tuple(theirs.shape) == weight.shape
        by_interface = torch.as_tensor(weight, device="cuda")
        assert by_interface.data_ptr() == weight.data_ptr()


def test_cupy_opens_every_weight_where_it_lies(gpu):
    cupy = library("cupy")
    model, _ = compiled("cuda")
    for weight in model.state_dict().values():
        assert cupy.from_dlpack(weight).data.ptr == weight.data_ptr()
        assert cupy.asarray(weight).data.ptr == weight.data_ptr()


def test_jax_opens_every_weight_where_it_lies(gpu):
    jax = library("jax")
    model, _ = compiled("cuda")
    for weight in model.state_dict().values():
        assert jax.dlpack.from_dlpack(weight).unsafe_buffer_pointer() == weight.data_ptr()


def test_the_interface_says_shape_type_bytes_and_stream(gpu):
    model, _ = compiled("cuda")
    weight = model.state_dict()["0.weight"]
    interface = weight.__cuda_array_interface__
    assert interface["version"] == 3
    assert interface["shape"] == (16, 12)
    assert interface["typestr"] == "<f4"
    assert interface["data"] == (weight.data_ptr(), False)
    assert interface["strides"] is None
    assert interface["stream"] not in (0, None)


def test_exports_outlive_step_and_model(gpu):
    model, step = compiled("cuda")
    expected = values(model.state_dict()["0.weight"])
    theirs = torch.from_dlpack(model.state_dict()["0.weight"])
    del model, step
    torch.ones(1 << 22, device="cuda")
    assert (theirs.cpu().numpy() == expected).all()


def producers():
    def cupy(x):
        return library("cupy").asarray(x)

    def jax(x):
        module = library("jax")
        return module.device_put(x.astype(np.int32) if x.dtype == np.int64 else x)

    return {"torch": lambda x: torch.from_numpy(x).cuda(), "cupy": cupy, "jax": jax}


@pytest.mark.parametrize("name", producers())
def test_batches_that_lie_on_the_gpu_give_the_same_losses(gpu, name):
    make = producers()[name]
    _, from_host = compiled("cuda")
    _, from_gpu = compiled("cuda")
    for i in range(6):
        x, y = batch(i)
        labels = y if name == "jax" else make(y)  # of 32 bits unless told otherwise
        assert from_gpu(make(x), labels) == from_host(x, y)


def test_values_on_the_gpu_that_would_have_to_be_converted_are_refused(gpu):
    _, step = compiled("cuda")
    x, y = batch(0)
    with pytest.raises(ValueError, match="are not dense ones of float32; convert them first"):
        step(torch.from_numpy(x).cuda().double(), y)
    assert np.isfinite(step(x, y))


def slow():
    """Keeps torch's current stream busy for some 50 ms."""
    torch.cuda._sleep(100_000_000)


def test_a_step_waits_for_the_stream_that_makes_its_batch(gpu):
    _, step = compiled("cuda")
    _, expected = compiled("cuda")
    x, y = batch(0)
    there = torch.from_numpy(x).cuda()
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        slow()
        late = there + 0
        loss = step(late, y)
    assert loss == expected(x, y)


def test_a_consumers_stream_waits_for_the_steps_before(gpu):
    model, step = compiled("cuda")
    train(step, 0, 5)
    with torch.cuda.stream(torch.cuda.Stream()):
        seen = torch.from_dlpack(model.state_dict()["0.weight"]).clone()
    _, other = compiled("cuda")
    train(other, 0, 5)
    torch.cuda.synchronize()
    assert (seen.cpu().numpy() == values(other.state_dict()["0.weight"])).all()


def test_a_step_waits_for_whoever_writes_a_weight_if_told_so(gpu):
    model, step = compiled("cuda")
    other_model, other = compiled("cuda")
    stream = torch.cuda.Stream()
    weight = torch.from_dlpack(model.state_dict()["0.weight"])
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        slow()
        weight.mul_(0.5)
    step.wait_for(stream)
    torch.from_dlpack(other_model.state_dict()["0.weight"]).mul_(0.5)
    torch.cuda.synchronize()
    assert train(step, 0, 3) == train(other, 0, 3)


@pytest.mark.parametrize(("first", "second"), [("cuda", "cpu"), ("cpu", "cuda"), ("cuda", "cuda")])
def test_a_checkpoint_goes_on_anywhere(gpu, tmp_path, first, second):
    file = tmp_path / "file"
    _, whole = compiled(first)
    expected = train(whole, 0, 8)
    _, begun = compiled(first)
    assert train(begun, 0, 4) == expected[:4]
    begun.save(file)
    _, resumed = compiled(second)
    resumed.load(file)
    losses = train(resumed, 4, 8)
    if first == second:
        assert losses == expected[4:]
    else:
        assert np.allclose(losses, expected[4:], rtol=0, atol=1e-3)


def test_a_state_dict_goes_from_device_to_device(gpu):
    _, there = compiled("cuda")
    train(there, 0, 3)
    _, here = compiled("cpu")
    here.load_state_dict(there.state_dict())
    for name, tensor in here.state_dict().items():
        assert (values(tensor) == values(there.state_dict()[name])).all()
    _, back = compiled("cuda")
    back.load_state_dict(copy.copy(here.state_dict()))
    assert train(back, 3, 5) == train(there, 3, 5)


def test_an_arena_of_torchs_is_worked_in(gpu):
    size = pg.plan(
        net(), optimizer=pg.optim.Adam(lr=0.01), batch=(BATCH, 12), device="cuda"
    ).arena_bytes
    block = torch.zeros(size, dtype=torch.uint8, device="cuda")
    model, step = compiled("cuda", arena=block)
    _, other = compiled("cuda")
    assert train(step, 0, 4) == train(other, 0, 4)
    begin = block.data_ptr()
    assert all(begin <= w.data_ptr() < begin + size for w in model.state_dict().values())
