"""PyTorch's training step, eager, compiled, or on a GPU captured as a CUDA graph. To see how far
rounding carries, also in float64 and from weights that are nudged by a last bit or two; and to see
by what, with each ReLU of the first step deciding as it does in the other precision."""

import copy

from peers import networks, turns
from peers.captured import Captured

NUDGES = tuple(f"nudge{seed}" for seed in range(8))
WAYS = ("channels_last", "fused", "compile", "reduce_overhead", "graphs")
FLAGS = (*WAYS, "float64", "other_signs", *NUDGES)
given = turns.arguments(FLAGS)

import torch  # noqa: E402 (reads OMP_NUM_THREADS)
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch_peak import peak_bytes  # noqa: E402

torch.set_num_threads(given.threads)
relu = F.relu
on_gpu = "cuda" in given.flags
device = "cuda" if on_gpu else "cpu"
if on_gpu:
    tf32 = "tf32" in given.flags
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True  # the fastest convolution, whatever workspace it takes


def module(kind, shape, stride):
    if kind == "linear":
        return nn.Linear(shape[1], shape[0])
    if kind == "norm":
        return nn.BatchNorm2d(shape[0])
    size = shape[2]
    return nn.Conv2d(shape[1], shape[0], size, stride, size // 2, bias=kind == "conv_bias")


class Network(nn.Module):
    def __init__(self, name):
        super().__init__()
        self.forward = getattr(self, name)
        for layer, kind, shape, stride in networks.LAYERS[name]:
            self.add_module(layer, module(kind, shape, stride))
        weights = networks.initial_weights(name)
        self.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()}, strict=False)

    def mlp_small(self, x):
        return self.l2(relu(self.l1(x)))

    def mlp_big(self, x):
        return self.l3(relu(self.l2(relu(self.l1(x)))))

    def cnn(self, x):
        x = F.max_pool2d(relu(self.c1(x)), 2)
        x = F.max_pool2d(relu(self.c2(x)), 2)
        return self.l2(relu(self.l1(x.flatten(1))))

    def resnet_small(self, x):
        x = relu(self.stem_bn(self.stem(x)))
        for stage in range(3):
            for block in range(2):
                x = self.block(f"s{stage}b{block}", x)
        return self.fc(x.mean((2, 3)))

    def block(self, name, x):
        def part(suffix):
            return getattr(self, name + suffix)

        y = relu(part("n1")(part("c1")(x)))
        y = part("n2")(part("c2")(y))
        if hasattr(self, name + "sc"):
            x = part("sn")(part("sc")(x))
        return relu(y + x)


def optimizer_of(network, parameters):
    kind, rate, momentum = networks.OPTIMIZERS[network]
    fused = True if "fused" in given.flags else None
    if kind == "adam":
        return torch.optim.Adam(parameters, rate, fused=fused, capturable="graphs" in given.flags)
    return torch.optim.SGD(parameters, rate, momentum, fused=fused)


images, labels = (torch.from_numpy(array) for array in networks.data(given.data))
network = Network(given.network)
with torch.no_grad():
    for seed in (NUDGES.index(flag) for flag in given.flags if flag in NUDGES):
        torch.manual_seed(seed)
        for parameter in network.parameters():
            parameter *= 1 + 2e-7 * torch.randn_like(parameter)
if "float64" in given.flags:
    network, images = network.double(), images.double()
if networks.has_images(given.network):
    images = images.view(-1, 1, 28, 28)
if "channels_last" in given.flags:
    network = network.to(memory_format=torch.channels_last)
    # With one channel both layouts have the same bytes; say that it is this one.
    images = images.as_strided(images.shape, (784, 1, 28, 1))
network, images, labels = network.to(device), images.to(device), labels.to(device)
optimizer = optimizer_of(given.network, network.parameters())
batches = networks.IMAGES // given.batch


def loss_of(x, y):
    return F.cross_entropy(network(x), y)


if "bf16" in given.flags:
    in_float32 = loss_of

    def loss_of(x, y):
        with torch.autocast(device, torch.bfloat16):
            return in_float32(x, y)


def signs_of_first_step(network, images):
    """What each ReLU lets through then, in order."""
    global relu
    signs = []

    def noting(x):
        signs.append(x > 0)
        return F.relu(x)

    relu = noting
    with torch.no_grad():
        network(images[: given.batch])
    return iter(signs)


if "other_signs" in given.flags:
    other = torch.float32 if "float64" in given.flags else torch.float64
    signs = signs_of_first_step(copy.deepcopy(network).to(other), images.to(other))

    def relu(x):
        return x * next(signs)


update = optimizer.step
if "compile" in given.flags:
    mode = "reduce-overhead" if "reduce_overhead" in given.flags else None
    loss_of = torch.compile(loss_of, mode=mode)
    update = torch.compile(lambda: optimizer.step())


def train(x, y):
    global relu
    optimizer.zero_grad(set_to_none=True)
    loss = loss_of(x, y)
    relu = F.relu
    loss.backward()
    update()
    return loss.detach()


def rows_of(i):
    first = (i % batches) * given.batch
    return slice(first, first + given.batch)


if "graphs" in given.flags:
    train = Captured(train, images[rows_of(0)], labels[rows_of(0)], torch.cuda)


def step(i):
    rows = rows_of(i)
    return train(images[rows], labels[rows])


def memory():
    """The most bytes alive in one step, of those allocated in it."""
    if on_gpu:
        return memory_of_gpu()
    optimizer.zero_grad(set_to_none=True)
    peak = peak_bytes(lambda: step(0))
    return {"peak_bytes": peak, "peak_how": "allocator events of one step in torch.profiler"}


def memory_of_gpu():
    """The same as the allocator knows it: what stays from step to step is told from its sizes."""
    held = torch.cuda.max_memory_reserved()
    if "reduce_overhead" in given.flags:
        how = "not told: what a replayed graph uses is in its pool from before"
        return {"peak_bytes": None, "peak_how": how, "held_bytes": held}
    if "graphs" in given.flags:
        peak = train.peak_bytes
    else:
        torch.cuda.reset_peak_memory_stats()
        step(0)
        peak = torch.cuda.max_memory_allocated()
    state = (t for of in optimizer.state.values() for t in of.values() if torch.is_tensor(t))
    stays = [images, labels, *network.parameters(), *network.buffers(), *state]
    kept = sum(t.numel() * t.element_size() for t in stays if t.is_cuda)
    how = "max_memory_allocated() of a step, without data, weights, statistics and moments"
    return {"peak_bytes": peak - kept, "peak_how": how, "held_bytes": held}


turns.serve(
    step,
    lambda loss: loss.item(),
    memory,
    [f"torch {torch.__version__}"],
    torch.cuda.synchronize if on_gpu else lambda: None,
)
