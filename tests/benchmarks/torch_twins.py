"""What a user would write by hand: torch's own layers, torch's optimizer, a plain loop."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from trainers.config import TrialConfig
from trainers.data import Dataset
from trainers.models import build_model

TORCHS_LAYER = {
    "rnn": "nn.RNN",
    "lstm": "nn.LSTM",
    "gru": "nn.GRU",
    "transformer": "nn.TransformerEncoderLayer",
}
"""Kinds that torch has a layer for. The others are made of torch's layers (linear, convolution,
normalisation), or torch has none; their loop runs over our module."""


class TorchNet(nn.Module):
    """Torch's layer of a kind, and a head on the last state or the mean over positions."""

    def __init__(self, kind: str, width: int, num_outputs: int) -> None:
        super().__init__()
        self.kind = kind
        self.read = nn.Linear(1, width) if kind == "transformer" else nn.Identity()
        if kind == "transformer":
            self.layer: nn.Module = nn.TransformerEncoderLayer(
                width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=True
            )
        else:
            make = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[kind]
            self.layer = make(1, width, batch_first=True)
        self.head = nn.Linear(width, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, C] for signals [B, 1, T]."""
        outputs = self.layer(self.read(x.transpose(1, 2)))
        if self.kind == "transformer":
            return self.head(outputs.mean(1))
        return self.head(outputs[0][:, -1])


def hand_written_epoch(config: TrialConfig, dataset: Dataset) -> Callable[[], None]:
    """Return one epoch of a hand-written loop, without evaluation."""
    kind = config.model.kind
    if kind in TORCHS_LAYER:
        model: nn.Module = TorchNet(kind, config.model.width, dataset.num_outputs)
    else:
        model = build_model(config.model, dataset.input_shape, dataset.num_outputs)
    if config.optimizer.kind == "adam":
        optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    else:
        optimizer = torch.optim.SGD(model.parameters(), 1e-3, fused=True)

    def run() -> None:
        with torch.enable_grad():
            for rows in torch.randperm(len(dataset.x_train)).split(config.train.batch_size):
                optimizer.zero_grad(set_to_none=True)
                logits = model(dataset.x_train.index_select(0, rows))
                target = dataset.y_train.index_select(0, rows)
                nn.functional.cross_entropy(logits, target).backward()
                optimizer.step()

    return run
