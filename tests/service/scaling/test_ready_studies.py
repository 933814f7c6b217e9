"""The ready studies: valid, within their promised cost, and each budget with sizes around it."""

from pathlib import Path

import pytest

import search_spaces
from service.scaling.spec import StudySpec, plan_study

FOLDER = Path(search_spaces.__path__[0])


@pytest.mark.parametrize(
    ("name", "flops_per_s", "most_minutes"),
    [("study-mlp", 2e9, 8), ("study-bytes-quick", 4e9, 8), ("study-bytes", 6e9, 90)],
)
def test_a_ready_study_keeps_its_promise(
    name: str, flops_per_s: float, most_minutes: float
) -> None:
    """With the mean rates of one core that whole runs of them had, rounded down."""
    spec = StudySpec.from_yaml(FOLDER / f"{name}.yaml")
    assert StudySpec.from_text(spec.to_yaml()) == spec
    plan = plan_study(spec, workers=2, flops_per_s=flops_per_s)
    sizes = plan.rows.groupby("budget_flops")["params"].nunique()
    assert (sizes >= 4).all()
    assert sorted(sizes.index) == list(spec.budgets)
    assert 60 * plan.hours < most_minutes
