"""What the API says of a study's laws: plain models, described in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from service.recipe.record import plain
from service.report.numbers import percent
from service.scaling.answers.result import Answer
from service.scaling.pictures.all import all_charts
from service.scaling.pictures.points import points_chart
from service.scaling.report.page import exponents, tables, trust
from service.scaling.study import ScalingStudy
from service.web.charts import chart_view
from service.web.fitting import StudyLook
from service.web.views import SearchView


class FindingView(BaseModel):
    """One line of what was found: a name, a value with its interval, and what it means."""

    name: str
    value: str
    note: str


class StudyView(SearchView):
    """A study: how far it is, and what its points say so far."""

    num_points: int = Field(description="Points that the law is of.")
    fitted_unix_s: float = Field(description="When the law was fitted.")
    is_latest: bool = Field(description="False: more has been trained, and it is being fitted.")
    recipes: list[str]
    recipe: str | None = Field(description="The one that is spoken of.")
    sentence: str | None = Field(description="The study in one line; null: there is no law yet.")
    why_no_law: str
    exponents: list[FindingView]
    trust: list[FindingView] = Field(description="Predicted, and what happened.")
    warnings: list[str]
    energy: str = Field(description="What energy and CO2 of predictions are based on.")
    confidence: float | None = Field(description="Of every interval.")
    smallest_flops: float | None
    largest_flops: float | None = Field(description="The largest budget of the data.")

    @classmethod
    def of(cls, search: SearchView, look: StudyLook) -> StudyView:  # type: ignore[override]
        """Show a study's record with what its points say."""
        study, found = look.study, look.analysis
        flops = None if study is None else study.points.frame["flops"]
        return cls(
            **search.model_dump(),
            num_points=look.num_points,
            fitted_unix_s=look.fitted_unix_s,
            is_latest=look.is_latest,
            recipes=list(look.recipes),
            recipe=None if study is None else study.recipe,
            sentence=None if found is None else found.sentence,
            why_no_law=look.why_no_law,
            exponents=_findings([] if found is None else exponents(found)),
            trust=_findings([] if found is None else trust(found)),
            warnings=[] if found is None else list(found.warnings),
            energy="" if found is None else found.axis_text,
            confidence=None if study is None else study.confidence,
            smallest_flops=None if flops is None else float(flops.min()),
            largest_flops=None if flops is None else float(flops.max()),
        )


class PredictionView(BaseModel):
    """What a budget would give if the best size were trained with it; null: not known."""

    flops: float
    times_data: float = Field(description="The budget over the largest one of the data.")
    loss: float
    loss_low: float | None
    loss_high: float | None
    params: float
    params_low: float | None
    params_high: float | None
    tokens: float
    tokens_low: float | None
    tokens_high: float | None
    kwh: float | None = Field(description="Of the site, PUE included.")
    kgco2e: float | None
    cost: float | None = Field(description="In the site's currency.")
    metric: str
    interval: str = Field(description="What the ends of the loss are.")
    sentence: str
    warnings: list[str]

    @classmethod
    def of(cls, answer: Answer, study: ScalingStudy) -> PredictionView:
        """Show the frontier at one budget."""
        row = plain(answer.frame.iloc[0].to_dict())
        known = {name: row[name] for name in cls.model_fields if name in row}
        return cls(
            **known,
            metric=study.points.metric,
            interval=f"{percent(study.confidence)} prediction interval",
            sentence=answer.sentence,
            warnings=list(answer.warnings),
        )


def charts_of(look: StudyLook) -> list[dict[str, Any]]:
    """Draw everything that a study has numbers for; those of the first screen come first."""
    if look.study is None:
        return []
    if look.analysis is None:
        return [chart_view(points_chart(look.study.points))]
    charts = all_charts(look.analysis)
    first = ("frontier", "isoflop", "returns")
    order = {name: place for place, name in enumerate(first)}
    charts.sort(key=lambda chart: order.get(chart.name, len(first)))
    return [chart_view(chart) for chart in [*charts, *tables(look.analysis)]]


def _findings(found: list[tuple[str, str, str]]) -> list[FindingView]:
    return [FindingView(name=name, value=value, note=note) for name, value, note in found]
