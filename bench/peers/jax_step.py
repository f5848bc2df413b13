"""JAX's training step: all of it in one jit, parameters and optimizer state donated; images
[n, h, w, c]. On a GPU the batches lie there before."""

import os

from peers import networks, turns

FLAGS = ("reduce_window", "reshape")  # how max-pool is said
given = turns.arguments(FLAGS)
on_gpu = "cuda" in given.flags
os.environ["JAX_PLATFORMS"] = "cuda" if on_gpu else "cpu"
os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # others are on the GPU, too
if given.threads == 1:
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = flags + " --xla_cpu_multi_thread_eigen=false"

import jax  # noqa: E402 (reads the environment)
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax import lax  # noqa: E402

if on_gpu:
    tf32 = "tf32" in given.flags
    jax.config.update("jax_default_matmul_precision", "tensorfloat32" if tf32 else "float32")
relu = jax.nn.relu
kind, rate, momentum = networks.OPTIMIZERS[given.network]


def narrow(x):
    """As activations are kept and products read them."""
    return x.astype(jnp.bfloat16) if "bf16" in given.flags else x


def wide(x):
    return x.astype(jnp.float32) if "bf16" in given.flags else x


def convolve(x, weight, stride, padding):
    return lax.conv_general_dilated(
        narrow(x),
        narrow(weight),
        (stride, stride),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def pool(x):
    if "reshape" in given.flags:
        n, height, width, channels = x.shape
        return x.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def linear(p, name, x):
    return narrow(x) @ narrow(p[name + ".weight"]) + narrow(p[name + ".bias"])


def norm(p, running, after, name, x):
    """Batch norm; `after` gets the running statistics that follow `running`."""
    axes = (0, 1, 2)
    x = wide(x)
    mean = x.mean(axes)
    variance = jnp.square(x).mean(axes) - mean * mean
    count = x.size / x.shape[3]
    old_mean, old_variance = running[name]
    after[name] = (
        0.9 * old_mean + 0.1 * mean,
        0.9 * old_variance + 0.1 * variance * count / (count - 1),
    )
    scale = lax.rsqrt(variance + 1e-5) * p[name + ".weight"]
    return narrow(x * scale + (p[name + ".bias"] - mean * scale))


def mlp_small(p, running, x):
    return linear(p, "l2", relu(linear(p, "l1", x))), running


def mlp_big(p, running, x):
    return linear(p, "l3", relu(linear(p, "l2", relu(linear(p, "l1", x))))), running


def cnn(p, running, x):
    for name in ("c1", "c2"):
        x = pool(relu(convolve(x, p[name + ".weight"], 1, 1) + narrow(p[name + ".bias"])))
    x = relu(linear(p, "l1", x.reshape(x.shape[0], -1)))
    return linear(p, "l2", x), running


def resnet_small(p, running, x):
    after = {}
    x = relu(norm(p, running, after, "stem_bn", convolve(x, p["stem.weight"], 1, 1)))
    for stage in range(3):
        for block in range(2):
            name = f"s{stage}b{block}"
            stride = 2 if stage and not block else 1
            y = convolve(x, p[name + "c1.weight"], stride, 1)
            y = relu(norm(p, running, after, name + "n1", y))
            y = norm(p, running, after, name + "n2", convolve(y, p[name + "c2.weight"], 1, 1))
            if name + "sc.weight" in p:
                x = convolve(x, p[name + "sc.weight"], stride, 0)
                x = norm(p, running, after, name + "sn", x)
            x = relu(y + x)
    return linear(p, "fc", x.mean((1, 2))), after


def loss_of(p, running, x, labels):
    logits, after = globals()[given.network](p, running, x)
    chosen = jnp.take_along_axis(jax.nn.log_softmax(wide(logits)), labels[:, None], 1)
    return -chosen.mean(), after


def adam(p, state, grads):
    count = state["count"] + 1
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state["first"], grads)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, state["second"], grads)
    first_scale, second_scale = 1 - 0.9**count, 1 - 0.999**count

    def update(p, m, v):
        return p - rate * (m / first_scale) / (jnp.sqrt(v / second_scale) + 1e-8)

    p = jax.tree.map(update, p, first, second)
    return p, {"count": count, "first": first, "second": second}


def sgd(p, state, grads):
    if momentum:
        grads = state = jax.tree.map(lambda m, g: momentum * m + g, state, grads)
    return jax.tree.map(lambda p, g: p - rate * g, p, grads), state


def train(everything, x, labels):
    p, running, state = everything
    (loss, running), grads = jax.value_and_grad(loss_of, has_aux=True)(p, running, x, labels)
    p, state = (adam if kind == "adam" else sgd)(p, state, grads)
    return (p, running, state), loss


def initial():
    p = {k: jnp.asarray(v) for k, v in networks.channels_last_weights(given.network).items()}
    running = {
        name: (jnp.zeros(shape), jnp.ones(shape))
        for name, layer, shape, _ in networks.LAYERS[given.network]
        if layer == "norm"
    }

    def zeros():
        return jax.tree.map(jnp.zeros_like, p)

    if kind == "adam":
        return p, running, {"count": jnp.float32(0), "first": zeros(), "second": zeros()}
    return p, running, zeros() if momentum else ()


images, labels = networks.data(given.data)
labels = labels.astype(np.int32)
if networks.has_images(given.network):
    images = images.reshape(-1, 28, 28, 1)
batches = networks.IMAGES // given.batch


def batch(i):
    first = (i % batches) * given.batch
    rows = slice(first, first + given.batch)
    return images[rows], labels[rows]


if on_gpu:
    on_device = [jax.device_put(batch(i)) for i in range(batches)]

    def batch(i):
        return on_device[i % batches]


everything = initial()
compiled = jax.jit(train, donate_argnums=0).lower(everything, *batch(0)).compile()


def step(i):
    global everything
    everything, loss = compiled(everything, *batch(i))
    return loss


def memory():
    analysis = compiled.memory_analysis()
    new = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    held = jax.devices()[0].memory_stats()["peak_bytes_in_use"] if on_gpu else None
    return {
        "peak_bytes": analysis.temp_size_in_bytes + new,
        "peak_how": "XLA's memory_analysis(): temporaries and outputs not donated",
        **({"held_bytes": held} if on_gpu else {}),
    }


turns.serve(
    step, float, memory, [f"jax {jax.__version__}"], lambda: jax.block_until_ready(everything)
)
