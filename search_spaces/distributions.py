"""What one hyperparameter may be: a choice of values, or an interval on a scale of its own."""

from __future__ import annotations

from typing import TypeAlias

from search_spaces.choices import Choice
from search_spaces.intervals import Interval

__all__ = ["Choice", "Distribution", "Interval"]

Distribution: TypeAlias = Choice | Interval
