"""What all pages share: templates, charts with their tables, colours, and plotly's script."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from service.report.charts.base import COLOURS, Chart
from service.report.numbers import setting, short

MAX_TABLE_ROWS = 500
_TEMPLATES = files("service.report") / "templates"


def render(template: str, *, with_plotly: bool, **values: Any) -> str:
    """Return one self-contained HTML document.

    It makes no request: style, script and plotly.js are inside, and a content security policy
    forbids the rest.

    Args:
        template: the name of a file of `templates/`.
        with_plotly: whether the page has pictures; plotly.js is 4 MB.
        values: what the template names.

    """
    environment = jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FunctionLoader(_read),
    )
    environment.filters["prose"] = _prose
    page: str = environment.get_template(template).render(
        style=Markup(_read("report.css")),
        script=Markup(_read("report.js")),
        plotly=Markup(_plotly_js()) if with_plotly else "",
        colours=_json(COLOURS),
        colour_css=Markup(_colour_css()),
        **values,
    )
    return page


def chart_values(chart: Chart, *, table_open: bool = False) -> dict[str, Any]:
    """Return what the template `charts.html` shows of a chart."""
    return {
        "name": chart.name,
        "title": chart.title,
        "note": chart.note,
        "wide": chart.wide,
        "labels": [label for label, _ in chart.views],
        "figures": _json([figure for _, figure in chart.views]),
        "height": chart.views[0][1]["layout"]["height"] if chart.views else 0,
        "table": table(chart.table),
        "open": not chart.views or table_open,
    }


def table(frame: pd.DataFrame) -> Markup:
    """Write a frame as a table with short numbers; long ones end with where to find the rest."""
    head = "".join(f'<th scope="col">{Markup.escape(str(name))}</th>' for name in frame.columns)
    rows = []
    for row in frame.head(MAX_TABLE_ROWS).itertuples(index=False):
        cells = []
        for value in row:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            css = ' class="num"' if number else ""
            cells.append(f"<td{css}>{Markup.escape(_cell(value))}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    more = ""
    if len(frame) > MAX_TABLE_ROWS:
        more = f"<p>{len(frame) - MAX_TABLE_ROWS} more rows are in the Parquet files.</p>"
    return Markup(
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{more}"
    )


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or (isinstance(value, float) and value != value) or value is pd.NA:
        return "–"
    if isinstance(value, float):
        return short(value, 4)
    return setting(value)


def _prose(text: str, *, capital: bool = False) -> Markup:
    """Escape a sentence, set what stands in backticks as code, and make it start large."""
    pieces = [str(Markup.escape(piece)) for piece in str(text).split("`")]
    for i in range(1, len(pieces) - 1, 2):
        pieces[i] = f"<code>{pieces[i]}</code>"
    if capital:
        pieces[0] = pieces[0][:1].upper() + pieces[0][1:]
    return Markup("".join(pieces))


def _json(value: Any) -> Markup:
    """Write JSON that may stand inside a script element."""
    return Markup(json.dumps(value, allow_nan=False).replace("<", "\\u003c"))


def _colour_css() -> str:
    light, dark = (
        "".join(f"--{name}:{colour};" for name, colour in COLOURS[scheme].items())
        for scheme in ("light", "dark")
    )
    return f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"


@cache
def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


@cache
def _plotly_js() -> str:
    from plotly.offline import get_plotlyjs

    text: str = get_plotlyjs()
    return text.replace("</script", "<\\/script")
