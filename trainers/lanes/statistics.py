"""What a pack records of each lane's signals where `train.statistics` is on (lecture, p. 13, 51).

Each lane is measured by its ordinary module, so the numbers do not depend on its neighbours.
Shapes: W lanes of a group, P numbers in a row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainers.config import ModelConfig
from trainers.data import Dataset
from trainers.diagnostics import layer_signals
from trainers.lanes.engine import Engine, LaneBuffers
from trainers.models import build_model

_NUM_ROWS = 256


class LaneStatistics:
    """Measures a group's lanes on the first training rows.

    Args:
        engine: Of the group; translates its rows.
        config: The first lane's section `model`; dropout, which may differ, is off in evaluation.
        dataset: On the lanes' device.
        like: A tensor of the lanes' dtype and device.

    """

    def __init__(self, engine: Engine, config: ModelConfig, dataset: Dataset, like: Tensor) -> None:
        self._engine = engine
        self._module = build_model(config, dataset.input_shape, dataset.num_outputs)
        self._module.to(device=like.device, dtype=like.dtype)
        self._rows = dataset.x_train[:_NUM_ROWS]

    def measure(
        self, params: Tensor, before: Tensor, buffers: LaneBuffers
    ) -> list[dict[str, float]]:
        """Return each lane's statistics, [W].

        `update_ratio` is |change| / |weights| (Euclidean norms, all weights together) of the last
        update. Where the model has activations that are modules there are, as means over these
        layers, `dead_share` and `saturated_share` (see `trainers.diagnostics`), and `spread_ratio`:
        the last layer's standard deviation over the first's.

        Args:
            params: [W, P] in the engine's working layout.
            before: The same, before the epoch's last update.
            buffers: The lanes' buffers, each [W, *shape].

        """
        weights = slice(0, self._engine.layout.num_decaying)
        change = torch.linalg.vector_norm((params - before)[:, weights].double(), dim=1)
        size = torch.linalg.vector_norm(before[:, weights].double(), dim=1)
        ratios = (change / size).tolist()
        rows = self._engine.to_canonical(params)
        return [
            {"update_ratio": ratios[lane], **self._signals(rows[lane], buffers, lane)}
            for lane in range(len(params))
        ]

    def _signals(self, row: Tensor, buffers: LaneBuffers, lane: int) -> dict[str, float]:
        self._engine.canonical.write(self._module, row)
        for name, buffer in self._module.named_buffers():
            buffer.copy_(buffers[name][lane])
        signals = layer_signals(self._module, self._rows)
        if not signals:
            return {}
        first = signals[0].std
        return {
            "dead_share": sum(s.dead_share for s in signals) / len(signals),
            "saturated_share": sum(s.saturated_share for s in signals) / len(signals),
            "spread_ratio": signals[-1].std / first if first else 0.0,
        }
