"""How fast nets over sequences step: fused, alone, and against torch's own layers.

The work is one training step on mnist1d (40 steps of one number) at batch 64 with Adam, on one
thread. `torch` is a plain loop over torch's own layers of the same sizes, `alone` the product's
`lane_by_lane`, `vmap` a fuse group. Runs are interleaved and medians reported, in seconds of the
processor.

    python tests/benchmarks/sequence_rate.py [--repeats N] [--json PATH]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from trainers.config import TrialConfig
from trainers.data import Dataset, load
from trainers.lanes.pack import Pack
from trainers.lanes.plan import fixed_plan
from trainers.trial import Trial

BATCH, STEPS, WIDTH, CLASSES = 64, 4, 32, 10
FUSE_WIDTHS = (4, 16)
MODELS: dict[str, dict[str, object]] = {
    "rnn": {"kind": "rnn", "depth": 1, "activation": "tanh"},
    "lstm": {"kind": "lstm", "depth": 1},
    "gru": {"kind": "gru", "depth": 1},
    "transformer": {"kind": "transformer", "depth": 1, "heads": 4},
    "moe": {"kind": "moe", "depth": 2, "num_experts": 8},
}
"""Of width 32 each; torch has no layer of its own for the last."""
Run = Callable[[], None]


class TorchNet(nn.Module):
    """Torch's layer of a kind, and a head on the last state or the mean over positions."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.read = nn.Linear(1, WIDTH) if kind == "transformer" else nn.Identity()
        if kind == "transformer":
            self.layer: nn.Module = nn.TransformerEncoderLayer(
                WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True
            )
        else:
            make = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[kind]
            self.layer = make(1, WIDTH, batch_first=True)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, C] for signals [B, 1, T]."""
        outputs = self.layer(self.read(x.transpose(1, 2)))
        if self.kind == "transformer":
            return self.head(outputs.mean(1))
        return self.head(outputs[0][:, -1])


def torch_epoch(kind: str, dataset: Dataset) -> Run:
    """One net of torch's layers through an epoch, without evaluation."""
    model = TorchNet(kind)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)

    def run() -> None:
        with torch.enable_grad():
            for rows in torch.randperm(len(dataset.x_train)).split(BATCH):
                optimizer.zero_grad(set_to_none=True)
                logits = model(dataset.x_train[rows])
                nn.functional.cross_entropy(logits, dataset.y_train[rows]).backward()
                optimizer.step()

    return run


def pack_epoch(model: dict[str, object], dataset: Dataset, tier: str, fuse_width: int) -> Run:
    """One fuse group through an epoch of the product's own code, without evaluation."""
    trials = [
        Trial(
            trial_id=i,
            seed=i,
            config=TrialConfig.from_mapping(
                {"data.name": "mnist1d", "model": {**model, "width": WIDTH},
                 "optimizer.lr": 1e-3 * (1 + i)}
            ),
        )
        for i in range(fuse_width)
    ]  # fmt: skip
    plan = fixed_plan(trials, dataset, tier=tier, fuse_width=fuse_width)  # type: ignore[arg-type]
    pack = Pack(trials, [None] * fuse_width, dataset, plan)
    pack.train_once_more()
    (group,) = pack._groups
    borders = group._data.batch_rows

    def run() -> None:
        group._train(borders, group._rates(len(borders)))

    return run


def measure(repeats: int) -> list[dict[str, float | str]]:
    """Measure every model; all variants of a model take turns."""
    data = load(TrialConfig.from_mapping({"data.name": "mnist1d"}).data)
    full = STEPS * BATCH
    dataset = replace(data, x_train=data.x_train[:full], y_train=data.y_train[:full])
    table: list[dict[str, float | str]] = []
    for name, model in MODELS.items():
        variants: dict[tuple[str, int], Run] = {}
        if name != "moe":
            variants["torch", 1] = torch_epoch(name, dataset)
        variants["alone", 1] = pack_epoch(model, dataset, "lane_by_lane", 1)
        for fuse_width in FUSE_WIDTHS:
            variants["vmap", fuse_width] = pack_epoch(model, dataset, "vmap", fuse_width)
        times: dict[tuple[str, int], list[float]] = {key: [] for key in variants}
        for turn in range(repeats + 1):
            for key, run in variants.items():
                started_s = time.thread_time()
                run()
                if turn:
                    times[key].append(time.thread_time() - started_s)
        rates = {key: key[1] * STEPS / median(seconds) for key, seconds in times.items()}
        for (variant, fuse_width), rate in rates.items():
            table.append(
                {
                    "model": name,
                    "variant": variant,
                    "fuse_width": fuse_width,
                    "lane_steps_per_s": rate,
                    "times_alone": rate / rates["alone", 1],
                    "times_torch": rate / rates.get(("torch", 1), float("nan")),
                }
            )
    return table


def main() -> None:
    """Print the table and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with torch.no_grad():
        table = measure(arguments.repeats)
    print("model        variant  lanes  lane-steps/s  x alone  x torch")
    for row in table:
        print(
            f"{row['model']:12s} {row['variant']:7s} {row['fuse_width']:6d} "
            f"{row['lane_steps_per_s']:13.0f} {row['times_alone']:8.2f} {row['times_torch']:8.2f}"
        )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
