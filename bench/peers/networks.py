"""The networks that all peers train: shapes, initial weights, optimizers and the order of the data.

`python -m peers.networks FOLDER` writes them down for the peers in C++: images.f32, labels.i64 and
NETWORK.f32 (all initial weights end to end, in the order of LAYERS, in PyTorch's layouts).
"""

import gzip
import sys
from pathlib import Path

import numpy as np

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
IMAGES = 60000


def resnet_layers():
    """Three stages of two blocks, 16, 32 and 64 channels wide."""
    layers = [("stem", "conv", (16, 1, 3, 3), 1), ("stem_bn", "norm", (16,), 0)]
    before = 16
    for stage, channels in enumerate((16, 32, 64)):
        for block in range(2):
            stride = 2 if stage > 0 and block == 0 else 1
            name = f"s{stage}b{block}"
            layers += [
                (name + "c1", "conv", (channels, before, 3, 3), stride),
                (name + "n1", "norm", (channels,), 0),
                (name + "c2", "conv", (channels, channels, 3, 3), 1),
                (name + "n2", "norm", (channels,), 0),
            ]
            if stride == 2:
                layers += [
                    (name + "sc", "conv", (channels, before, 1, 1), stride),
                    (name + "sn", "norm", (channels,), 0),
                ]
            before = channels
    return [*layers, ("fc", "linear", (10, 64), 0)]


# (name, kind, shape of the weight in PyTorch's order, stride). Only "conv" has no bias.
LAYERS = {
    "mlp_small": [("l1", "linear", (128, 784), 0), ("l2", "linear", (10, 128), 0)],
    "mlp_big": [
        ("l1", "linear", (1024, 784), 0),
        ("l2", "linear", (1024, 1024), 0),
        ("l3", "linear", (10, 1024), 0),
    ],
    "cnn": [
        ("c1", "conv_bias", (32, 1, 3, 3), 1),
        ("c2", "conv_bias", (64, 32, 3, 3), 1),
        ("l1", "linear", (128, 3136), 0),
        ("l2", "linear", (10, 128), 0),
    ],
    "resnet_small": resnet_layers(),
}

# (kind, learning rate, momentum)
OPTIMIZERS = {
    "mlp_small": ("sgd", 0.1, 0.0),
    "mlp_big": ("adam", 1e-3, 0.0),
    "cnn": ("sgd", 0.05, 0.9),
    "resnet_small": ("sgd", 0.05, 0.9),
}


def has_images(network):
    """Whether it takes images; the others take rows of 784 values."""
    return network in ("cnn", "resnet_small")


def initial_weights(network):
    """Arrays by name: the same numbers for every peer, uniform in ±1/sqrt(fan in)."""
    numbers = np.random.RandomState(0)
    weights = {}
    for name, kind, shape, _ in LAYERS[network]:
        if kind == "norm":
            weights[name + ".weight"] = np.ones(shape, np.float32)
            weights[name + ".bias"] = np.zeros(shape, np.float32)
            continue
        bound = 1 / np.sqrt(np.prod(shape[1:]))
        weights[name + ".weight"] = numbers.uniform(-bound, bound, shape).astype(np.float32)
        if kind != "conv":
            weights[name + ".bias"] = numbers.uniform(-bound, bound, shape[0]).astype(np.float32)
    return weights


def channels_last_weights(network):
    """The same for peers that want images [n, h, w, c]: convolutions [h, w, i, o], linear layers
    [inputs, outputs] with their inputs in the order of such an image."""
    weights = {}
    for name, weight in initial_weights(network).items():
        if weight.ndim == 4:
            weight = weight.transpose(2, 3, 1, 0)
        elif weight.ndim == 2:
            if (network, name) == ("cnn", "l1.weight"):
                weight = weight.reshape(128, 64, 7, 7).transpose(0, 2, 3, 1).reshape(128, 3136)
            weight = weight.T
        weights[name] = np.ascontiguousarray(weight)
    return weights


def data(folder):
    """Images [60000, 784] in [0, 1] and labels (i64), in their own order, from dump()'s files."""
    images = np.fromfile(Path(folder) / "images.f32", np.float32).reshape(IMAGES, 784)
    return images, np.fromfile(Path(folder) / "labels.i64", np.int64)


def dump(folder):
    """Writes what is not there yet."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "labels.i64").exists():
        pixels = idx("train-images-idx3-ubyte.gz", header=16).astype(np.float32)
        (pixels / np.float32(255)).tofile(folder / "images.f32")
        idx("train-labels-idx1-ubyte.gz", header=8).astype(np.int64).tofile(folder / "labels.i64")
    for network in LAYERS:
        weights = [weight.ravel() for weight in initial_weights(network).values()]
        np.concatenate(weights).tofile(folder / f"{network}.f32")


def idx(name, header):
    with gzip.open(FASHION_MNIST / name) as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)


if __name__ == "__main__":
    dump(sys.argv[1])
