"""The space language: distributions over a trial's configuration, and how spaces are refined."""

from search_spaces.adjust import apply_consequence, with_lr_interval
from search_spaces.constraints import Constraint, parse_constraints
from search_spaces.constructors import (
    choice,
    distribution,
    int_uniform,
    log_int,
    log_uniform,
    uniform,
)
from search_spaces.derive import Derived
from search_spaces.distributions import Choice, Distribution, Interval
from search_spaces.reasons import Reason
from search_spaces.refine import refine
from search_spaces.space import Params, Space

__all__ = [
    "Choice",
    "Constraint",
    "Derived",
    "Distribution",
    "Interval",
    "Params",
    "Reason",
    "Space",
    "apply_consequence",
    "choice",
    "distribution",
    "int_uniform",
    "log_int",
    "log_uniform",
    "parse_constraints",
    "refine",
    "uniform",
    "with_lr_interval",
]
