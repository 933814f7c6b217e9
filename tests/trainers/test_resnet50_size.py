"""The parameter counter on a published size (lecture, p. 63: ResNet)."""

import torch
from torch import nn

from trainers.flops import count_params


def bottleneck(channels: int, width: int, stride: int) -> list[nn.Module]:
    """Layers of one bottleneck block; the first of a stage also projects its shortcut."""
    shapes = [(channels, width, 1), (width, width, 3), (width, 4 * width, 1)]
    if channels != 4 * width:
        shapes.append((channels, 4 * width, 1))
    layers: list[nn.Module] = []
    for inputs, outputs, kernel in shapes:
        layers += [nn.Conv2d(inputs, outputs, kernel, stride, bias=False), nn.BatchNorm2d(outputs)]
    return layers


def test_resnet_50_has_25_557_032_parameters():
    with torch.device("meta"):
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, bias=False), nn.BatchNorm2d(64)]
        channels = 64
        for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
            for index in range(blocks):
                layers += bottleneck(channels, width, 2 if index == 0 else 1)
                channels = 4 * width
        model = nn.Sequential(*layers, nn.Linear(channels, 1000))
    assert count_params(model)[0] == 25_557_032
