"""Layers for inputs whose features have neighbours: signals and images."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from trainers.errors import ConfigError


@dataclass(frozen=True)
class SpatialLayers:
    """Torch's layers for one number of spatial dimensions."""

    conv: type[nn.Conv1d] | type[nn.Conv2d]
    norm: type[nn.BatchNorm1d] | type[nn.BatchNorm2d]
    pool: type[nn.MaxPool1d] | type[nn.MaxPool2d]


SIGNAL = SpatialLayers(nn.Conv1d, nn.BatchNorm1d, nn.MaxPool1d)
IMAGE = SpatialLayers(nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d)


def spatial_layers(kind: str, input_shape: tuple[int, ...]) -> SpatialLayers:
    """Return 1-D layers for (channels, length) and 2-D ones for (channels, height, width).

    Raises:
        ConfigError: for any other shape, naming the model kind that was asked for.

    """
    if len(input_shape) not in (2, 3):
        raise ConfigError(
            f"`model.kind: {kind}` needs inputs with neighbours, (channels, length) or "
            f"(channels, height, width), but the data's input shape is {input_shape}; flat tables "
            "have no neighbours to convolve: use `model.kind: mlp`, or register an .npz whose "
            "features are [rows, channels, height, width]"
        )
    return SIGNAL if len(input_shape) == 2 else IMAGE


def check_kernel(input_shape: tuple[int, ...], kernel_size: int) -> None:
    """Raise ConfigError where a receptive field is longer than the input: the rest sees padding.

    Args:
        input_shape: (channels, *sizes).
        kernel_size: side of the receptive field, odd.

    """
    smallest = min(input_shape[1:])
    if kernel_size > smallest:
        raise ConfigError(
            f"`model.kernel_size` must be <= the inputs' smallest side, {smallest} of shape "
            f"{input_shape}, but got {kernel_size}; try {smallest - (smallest + 1) % 2}"
        )


def halved(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the sizes after a layer of stride 2 that pads its input: rounded up."""
    return tuple(-(-size // 2) for size in sizes)


def check_halvings(kind: str, input_shape: tuple[int, ...], times: int, advice: str) -> None:
    """Raise ConfigError where layers of stride 2 would meet a side of length 1.

    Args:
        kind: of the model.
        input_shape: (channels, *sizes).
        times: layers of stride 2.
        advice: what to change.

    """
    most = (min(input_shape[1:]) - 1).bit_length()
    if times > most:
        raise ConfigError(
            f"a {kind} halves each side {times} times here, but inputs of shape {input_shape} "
            f"can be halved {most} times until a side is 1; {advice}"
        )
