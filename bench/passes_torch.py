"""`passes_torch.py MODEL BATCH`: the most bytes that PyTorch allocates in one training step.

After warm-up: gradients, activations and temporary buffers; parameters, momentum and the batch
itself were there before. ReLU in place would change nothing: its input is freed anyway, as its
gradient only needs its output.
"""

import json
import sys

import torch
from torch import nn
from torch.nn import functional as F
from torch_peak import peak_bytes


def mlp_big():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(),
        nn.Linear(1024, 10),
    )  # fmt: skip


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


def chain():
    convolutions = [nn.Conv2d(16 if i else 1, 16, 3, padding=1) for i in range(32)]
    layers = [layer for convolution in convolutions for layer in (convolution, nn.ReLU())]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.relu, self.around = nn.ReLU(), nn.Sequential()
        if stride != 1 or inputs != outputs:
            around = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.around = nn.Sequential(around, nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += self.around(x)
        return self.relu(y)


def resnet20():
    layers = [nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    before = 16
    for width in 16, 32, 64:
        for _ in range(3):
            layers.append(Block(before, width, 1 if before == width else 2))
            before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


class UNet(nn.Module):
    def __init__(self, width=16):
        super().__init__()

        def stage(inputs, outputs):
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(),
                nn.Conv2d(outputs, outputs, 3, padding=1), nn.ReLU(),
            )  # fmt: skip

        self.down1, self.down2 = stage(1, width), stage(width, 2 * width)
        self.middle = stage(2 * width, 4 * width)
        self.up2, self.up1 = stage(6 * width, 2 * width), stage(3 * width, width)
        self.fc = nn.Linear(width, 10)

    def forward(self, x):
        down1 = self.down1(x)
        down2 = self.down2(F.max_pool2d(down1, 2))
        y = self.middle(F.max_pool2d(down2, 2))
        y = self.up2(torch.cat([down2, F.interpolate(y, scale_factor=2)], 1))
        y = self.up1(torch.cat([down1, F.interpolate(y, scale_factor=2)], 1))
        return self.fc(y.mean((2, 3)))


MODELS = {"mlp_big": mlp_big, "cnn": cnn, "resnet20": resnet20, "chain": chain, "unet": UNet}


def peak_of_one_step(network, batch):
    optimizer = torch.optim.SGD(network.parameters(), 0.05, 0.9)
    images, labels = torch.rand(batch, 1, 28, 28), torch.randint(10, (batch,))

    def step():
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()

    step()
    step()
    optimizer.zero_grad(set_to_none=True)
    return peak_bytes(step)


def main(model, batch):
    torch.set_num_threads(1)
    row = {"bench": "passes", "model": model, "batch": batch, "torch": torch.__version__}
    print(json.dumps({**row, "peak_bytes": peak_of_one_step(MODELS[model](), batch)}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
