"""Models as ordinary `nn.Module`s: they know nothing of lanes and work alone with torch."""

from trainers.models.build import build_model, check_task
from trainers.models.cnn import Cnn
from trainers.models.dropout import LaneDropout
from trainers.models.mlp import Mlp

__all__ = ["Cnn", "LaneDropout", "Mlp", "build_model", "check_task"]
