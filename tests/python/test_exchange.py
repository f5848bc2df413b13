"""Tensors to and from NumPy, PyTorch and JAX: the same bytes, as long as anybody looks."""

import array
import ctypes
import gc
import hashlib
import io
import re
import resource
import subprocess
import sys

import numpy as np
import poolgrad as pg
import pytest
import raw_dlpack
import torch
from hypothesis import given
from hypothesis import strategies as st
from raw_dlpack import Producer, Unversioned, Versioned


@pytest.fixture
def tensor():
    result = pg.empty((3, 4))
    np.asarray(result)[:] = np.arange(12).reshape(3, 4)
    return result


with open("/proc/self/maps") as maps:
    SANITIZED = "libasan" in maps.read()


def address(array):
    return array.__array_interface__["data"][0]


# ---- what a tensor says of itself


def test_a_tensor_tells_shape_dtype_strides_and_bytes(tensor):
    assert tensor.shape == (3, 4)
    assert tensor.strides == (4, 1)
    assert tensor.dtype == "float32"
    assert tensor.nbytes == 48
    assert not tensor.read_only
    assert repr(tensor) == "poolgrad.Tensor(shape=[3, 4], dtype=float32)"


def test_empty_is_zero_and_begins_on_a_page():
    tensor = pg.empty(1000)
    assert tensor.data_ptr() % 4096 == 0
    assert not np.asarray(tensor).any()


@pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("float32"), torch.float32])
def test_dtypes_go_by_name_whoever_names_them(dtype):
    assert pg.empty(2, dtype).dtype == "float32"


def test_item_is_the_value_of_one_element(tensor):
    assert pg.empty((), "int64").item() == 0
    with pytest.raises(ValueError, match=r"item: shape \[3, 4\] has not exactly one element"):
        tensor.item()


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (((2, -1),), ValueError, "empty: shape [2, -1] has a negative extent"),
        (((1,) * 7,), ValueError, "shape: 7 axes, but 6 are the most"),
        ((3, "float8"), ValueError, "dtype: 'float8' is unknown; one of float32, float64,"),
        (("ab",), TypeError, "shape: 'ab' is neither a whole number nor a sequence of them"),
        (((1 << 40, 1 << 40),), MemoryError, "has more elements than fit into memory"),
    ],
)
def test_empty_refuses_what_cannot_be(arguments, error, text):
    with pytest.raises(error, match=re.escape(text)):
        pg.empty(*arguments)


# ---- out: NumPy, PyTorch, JAX


def test_every_way_out_leads_to_the_same_bytes(tensor):
    views = [
        np.from_dlpack(tensor),
        np.asarray(tensor),
        tensor.numpy(),
        np.asarray(memoryview(tensor)),
        torch.from_dlpack(tensor).numpy(),
        torch.asarray(tensor).numpy(),
        torch.utils.dlpack.from_dlpack(tensor.__dlpack__()).numpy(),  # unversioned
        torch.frombuffer(tensor, dtype=torch.float32).numpy(),
    ]
    assert [address(view) for view in views] == [tensor.data_ptr()] * len(views)
    views[0][1, 2] = 77
    torch.from_dlpack(tensor)[0, 0] = 55
    for view in views:
        assert view.flags.writeable
        assert view.reshape(3, 4)[1, 2] == 77
        assert view.reshape(3, 4)[0, 0] == 55


def test_jax_sees_the_same_bytes(tensor):
    jax = pytest.importorskip("jax")
    view = jax.dlpack.from_dlpack(tensor, copy=False)
    assert view.unsafe_buffer_pointer() == tensor.data_ptr()
    assert pg.from_dlpack(view).data_ptr() == tensor.data_ptr()


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8", "bool"]
)
@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (1, 2, 1, 3, 1, 2), (0, 4), (4, 0)])
def test_every_dtype_and_shape_goes_to_torch_and_back(dtype, shape):
    tensor = pg.empty(shape, dtype)
    view = torch.from_dlpack(tensor)
    assert view.dtype == getattr(torch, dtype)
    assert tuple(view.shape) == shape
    back = pg.from_dlpack(view)
    assert (back.shape, back.dtype) == (shape, dtype)
    if 0 not in shape:
        assert view.data_ptr() == back.data_ptr() == tensor.data_ptr()
    if dtype != "bfloat16":
        assert np.asarray(tensor).dtype == np.dtype(dtype)
        assert np.asarray(tensor).shape == np.from_dlpack(tensor).shape == shape


def test_what_we_lend_is_complete(tensor):
    managed, pointer = raw_dlpack.steal(tensor.__dlpack__(max_version=(1, 3)))
    lent = managed.tensor
    assert managed.major == 1
    assert managed.flags == 0
    assert lent.data == tensor.data_ptr()
    assert lent.byte_offset == 0
    assert lent.strides[:2] == [4, 1]
    assert managed.deleter
    managed.deleter(pointer)

    managed, pointer = raw_dlpack.steal(pg.empty((0, 3)).__dlpack__(max_version=(1, 0)))
    assert managed.tensor.data is None
    assert managed.tensor.strides
    managed.deleter(pointer)


@pytest.mark.parametrize(
    ("max_version", "name"),
    [(None, "dltensor"), ((0, 8), "dltensor"), ((1, 0), "dltensor_versioned"),
     ((1, 99), "dltensor_versioned"), ((2, 0), "dltensor_versioned")],
)  # fmt: skip
def test_the_capsule_is_as_new_as_the_consumer(tensor, max_version, name):
    assert f'"{name}"' in repr(tensor.__dlpack__(max_version=max_version))


def test_a_copy_is_made_only_when_asked_for(tensor):
    for copy in (None, False):
        managed, pointer = raw_dlpack.steal(tensor.__dlpack__(max_version=(1, 0), copy=copy))
        assert managed.tensor.data == tensor.data_ptr()
        managed.deleter(pointer)
    managed, pointer = raw_dlpack.steal(tensor.__dlpack__(max_version=(1, 0), copy=True))
    assert managed.tensor.data != tensor.data_ptr()
    assert managed.flags == raw_dlpack.IS_COPIED
    managed.deleter(pointer)
    copied = np.from_dlpack(tensor, copy=True)
    assert address(copied) != tensor.data_ptr()
    assert np.array_equal(copied, np.asarray(tensor))


def test_streams_and_devices_of_others_are_refused(tensor):
    assert tensor.__dlpack_device__() == (1, 0)
    tensor.__dlpack__(stream=-1, dl_device=(1, 0))
    with pytest.raises(BufferError, match="stream must be None for a tensor on the CPU, not 2"):
        tensor.__dlpack__(stream=2)
    with pytest.raises(BufferError, match=r"is not moved to \(2, 0\); ask without dl_device"):
        tensor.__dlpack__(dl_device=(2, 0))


def test_read_only_bytes_stay_read_only(tensor):
    values = np.arange(6, dtype=np.float32)
    values.flags.writeable = False
    borrowed = pg.from_dlpack(values)
    assert borrowed.read_only
    assert not np.from_dlpack(borrowed).flags.writeable
    assert not np.asarray(borrowed).flags.writeable
    assert memoryview(borrowed).readonly
    with pytest.raises(BufferError, match="read-only, which an unversioned capsule cannot say"):
        borrowed.__dlpack__()
    copied = torch.utils.dlpack.from_dlpack(borrowed.__dlpack__(copy=True))  # its own bytes
    assert copied.data_ptr() != borrowed.data_ptr()
    with pytest.raises(TypeError, match="must be read-write"):
        io.BytesIO(bytes(24)).readinto(borrowed)


def test_array_obeys_dtype_and_copy(tensor):
    assert address(np.array(tensor, copy=True)) != tensor.data_ptr()
    assert address(tensor.__array__(copy=False)) == tensor.data_ptr()
    assert np.asarray(tensor, dtype=np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="another dtype needs a copy"):
        tensor.__array__(np.float64, copy=False)


def test_bfloat16_has_no_buffer_and_says_what_to_do():
    with pytest.raises(BufferError, match="bfloat16 has no format there; use from_dlpack"):
        memoryview(pg.empty(3, "bfloat16"))
    with pytest.raises((BufferError, RuntimeError, TypeError)):  # NumPy's refusal, not SystemError
        np.from_dlpack(pg.empty(3, "bfloat16"))


def test_buffers_are_given_in_the_order_asked_for():
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    for strided in (values.T, values[:, ::2], values[::-1]):
        borrowed = pg.from_dlpack(strided)
        view = memoryview(borrowed)
        assert np.array_equal(np.asarray(view), strided)
        assert (view.c_contiguous, view.f_contiguous) == (
            strided.flags.c_contiguous, strided.flags.f_contiguous)  # fmt: skip
        with pytest.raises(BufferError, match="not contiguous in the order asked for"):
            hashlib.sha256(borrowed)


# ---- in


def test_what_we_take_is_the_same_bytes():
    ours = pg.from_dlpack(values := np.arange(6, dtype=np.float32).reshape(2, 3))
    assert ours.data_ptr() == address(values)
    theirs = torch.arange(6.0)
    assert pg.from_dlpack(theirs).data_ptr() == theirs.data_ptr()
    assert pg.from_dlpack(theirs.__dlpack__()).data_ptr() == theirs.data_ptr()  # a bare capsule
    assert pg.from_dlpack(theirs, device="cpu", copy=False).data_ptr() == theirs.data_ptr()
    copied = pg.from_dlpack(theirs, copy=True)
    assert copied.data_ptr() % 4096 == 0
    assert np.array_equal(copied, theirs)


@given(st.data())
def test_strides_of_any_sign_survive(data):
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    steps = st.sampled_from([slice(None), slice(None, None, 2), slice(None, None, -1), slice(1, 3)])
    values = values[tuple(data.draw(steps) for _ in shape)]
    values = values.transpose(data.draw(st.permutations(range(len(shape)))))
    ours = pg.from_dlpack(values)
    assert np.array_equal(np.from_dlpack(ours), values)
    assert np.array_equal(np.asarray(ours), values)
    assert np.array_equal(pg.from_dlpack(values, copy=True), values)
    if values.size:
        assert ours.data_ptr() == address(values)


@pytest.mark.parametrize("kind", [Versioned, Unversioned])
def test_what_is_taken_is_freed_once_with_the_last_view(kind):
    producer = Producer(kind)
    ours = pg.from_dlpack(producer)
    theirs = np.from_dlpack(ours)
    del ours
    gc.collect()
    assert producer.freed == 0
    assert theirs[1, 2] == 5
    del theirs
    gc.collect()
    assert producer.freed == 1


@pytest.mark.parametrize("kind", [Versioned, Unversioned])
@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"device_type": raw_dlpack.CUDA}, "the array lies on cuda:0; move it to the CPU first"),
        ({"code": 5, "bits": 64}, "elements of type code 5 with 64 bits and 1 lanes are unknown"),
        ({"lanes": 2}, "2 lanes"),
        ({"ndim": 7}, "7 axes, where 0 to 6 are possible"),
        ({"data": None}, "shape [2, 3] has no data pointer"),
        ({"shape": (ctypes.c_int64 * 2)(1 << 62, 4)}, "leaves the address space"),
    ],
)
def test_what_is_refused_is_freed_once(kind, changes, text):
    producer = Producer(kind, **changes)
    with pytest.raises(BufferError, match=re.escape(text)):
        pg.from_dlpack(producer)
    assert producer.freed == 1


def test_another_major_version_is_refused_and_freed():
    producer = Producer(major=2)
    with pytest.raises(BufferError, match=r"version 2\.0 of DLPack is unknown here"):
        pg.from_dlpack(producer)
    assert producer.freed == 1


def test_producers_are_asked_for_versions_first_and_then_plainly():
    old = Producer(Unversioned)
    pg.from_dlpack(old)
    assert [sorted(wishes) for wishes in old.asked] == [["max_version"], []]
    new = Producer()
    pg.from_dlpack(new, device=(1, 0), copy=False)
    assert new.asked[0]["copy"] is False
    assert new.asked[0]["max_version"] >= (1, 1)


def test_missing_strides_and_an_offset_are_understood():
    producer = Producer(strides=None, byte_offset=4, ndim=1)
    ours = pg.from_dlpack(producer)
    assert list(np.asarray(ours)) == [1, 2]


@pytest.mark.parametrize("thing", [[1.0], 3, "text", None])
def test_things_without_dlpack_are_type_errors(thing):
    with pytest.raises(TypeError, match="has no __dlpack__; pass an array or a tensor"):
        pg.from_dlpack(thing)


def test_a_capsule_is_used_once(tensor):
    capsule = tensor.__dlpack__()
    pg.from_dlpack(capsule)
    with pytest.raises(BufferError, match="not a DLPack capsule, or one that was used before"):
        pg.from_dlpack(capsule)


def test_errors_of_producers_come_through():
    with pytest.raises(BufferError, match="require"):
        pg.from_dlpack(torch.zeros(2, requires_grad=True))
    with pytest.raises(ValueError, match="device: 'tpu' is unknown"):
        pg.from_dlpack(torch.zeros(2), device="tpu")


@pytest.mark.skipif(pg.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_brought_to_one():
    with pytest.raises(RuntimeError, match="device: cuda:0 cannot be used"):
        pg.from_dlpack(torch.zeros(2), device="cuda")


# ---- who shares what


def test_shares_memory_across_libraries(tensor):
    values = np.asarray(tensor)
    assert pg.shares_memory(tensor, torch.from_dlpack(tensor)[1])
    assert pg.shares_memory(values[::-1], tensor)
    assert not pg.shares_memory(values[:1], values[1:])
    assert not pg.shares_memory(tensor, torch.from_dlpack(tensor).clone())
    assert not pg.shares_memory(values[:0], values)
    numbers = array.array("f", [1, 2])
    assert pg.shares_memory(numbers, memoryview(numbers)[1:])


# ---- lives


def test_views_keep_the_bytes_when_the_tensor_is_gone(tensor):
    expected = np.arange(12).reshape(3, 4)
    views = [np.from_dlpack(tensor), torch.from_dlpack(tensor), np.asarray(memoryview(tensor))]
    del tensor
    gc.collect()
    others = [pg.empty((3, 4)) for _ in range(50)]  # would be given the same pages
    for view in views:
        assert np.array_equal(view, expected)
    del others


@pytest.mark.skipif(SANITIZED, reason="the sanitizer keeps freed memory for a while")
def test_nothing_is_left_behind():
    def megabytes():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize() / 1e6

    def exchange():
        tensor = pg.empty(250_000)  # 1 MB, all touched
        np.from_dlpack(tensor)
        torch.from_dlpack(tensor)
        memoryview(tensor)
        tensor.__dlpack__()  # capsules that nobody takes
        tensor.__dlpack__(max_version=(1, 0), copy=True)
        pg.from_dlpack(pg.from_dlpack(tensor), copy=True)
        producer = Producer(ndim=7)
        with pytest.raises(BufferError):
            pg.from_dlpack(producer)

    for _ in range(20):
        exchange()
    before = megabytes()
    for _ in range(300):
        exchange()
    assert megabytes() - before < 20


def test_a_deleter_may_run_on_a_thread_that_python_does_not_know():
    libc = ctypes.CDLL(None)
    for make in (pg.empty, lambda n: pg.from_dlpack(torch.zeros(n)),
                 lambda n: pg.from_dlpack(np.zeros(n))):  # fmt: skip
        for kind, version in ((Versioned, (1, 0)), (Unversioned, None)):
            capsule = make(1000).__dlpack__(max_version=version)  # the last that holds the bytes
            managed, pointer = raw_dlpack.steal(capsule, kind)
            start = ctypes.cast(managed.deleter, ctypes.c_void_p)
            thread = ctypes.c_ulong()
            assert not libc.pthread_create(
                ctypes.byref(thread), None, start, ctypes.c_void_p(pointer)
            )
            assert not libc.pthread_join(thread, None)


def test_a_deleter_may_run_after_the_interpreter():
    script = """
import ctypes
import numpy, poolgrad, raw_dlpack
libc = ctypes.CDLL(None)
libc.__cxa_atexit(ctypes.cast(libc.puts, ctypes.c_void_p), ctypes.c_char_p(b"freed"), None)
for source in (poolgrad.empty(1000), poolgrad.from_dlpack(numpy.zeros(1000))):
    managed, pointer = raw_dlpack.steal(source.__dlpack__(max_version=(1, 0)))
    libc.__cxa_atexit(ctypes.cast(managed.deleter, ctypes.c_void_p), ctypes.c_void_p(pointer), None)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=raw_dlpack.__file__[:-14],
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "freed\n", "")


def test_importing_brings_no_numpy_and_is_quick():
    script = """
import sys, time
start = time.perf_counter()
import poolgrad
seconds = time.perf_counter() - start
assert "numpy" not in sys.modules
assert poolgrad.empty(3).nbytes == 12
print(seconds)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < (1.0 if SANITIZED else 0.1)
