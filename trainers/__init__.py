"""What gets trained: models, data, update rules, and packs of trials along the lane axis.

Names load on first use, so that `import trainers` costs nothing and the command line answers fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainers.lanes.checkpoint import load_lane, load_lanes, save_pack
    from trainers.lanes.evaluation import evaluate, to_module
    from trainers.lanes.pack import PackResult, train_pack
    from trainers.lanes.plan import make_plan
    from trainers.lanes.signature import signature
    from trainers.lanes.state import LaneState, join, select
    from trainers.trial import CheckpointRef, EpochReport, EpochRow, ExecutionPlan, Trial

_HOMES = {
    "trainers.lanes.checkpoint": ("load_lane", "load_lanes", "save_pack"),
    "trainers.lanes.evaluation": ("evaluate", "to_module"),
    "trainers.lanes.pack": ("PackResult", "train_pack"),
    "trainers.lanes.plan": ("make_plan",),
    "trainers.lanes.signature": ("signature",),
    "trainers.lanes.state": ("LaneState", "join", "select"),
    "trainers.trial": ("CheckpointRef", "EpochReport", "EpochRow", "ExecutionPlan", "Trial"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022 - grouped by home
    "load_lane", "load_lanes", "save_pack", "evaluate", "to_module", "PackResult", "train_pack",
    "make_plan", "signature",
    "LaneState", "join", "select", "CheckpointRef", "EpochReport", "EpochRow", "ExecutionPlan",
    "Trial",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
