"""The pieces of a paper: vector figures at column width, a table, and a methods paragraph."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from service.report.files import write_text
from service.scaling.analysis import Analysis
from service.scaling.pictures.all import all_charts, file_name
from service.scaling.pictures.drawing import save
from trainers.errors import ConfigError

COLUMN_CM = 8.5
ESCAPES = {c: rf"\{c}" for c in "&%$#_{}"} | {
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}",
}  # fmt: skip
SYMBOLS = {"alpha": r"$\alpha$", "beta": r"$\beta$", "a": "$a$", "b": "$b$", "E": "$E$",
           "A": "$A$", "B": "$B$"}  # fmt: skip


def write_paper(study: Analysis, out_dir: str | Path, *, width_cm: float = COLUMN_CM) -> list[Path]:
    """Write PDF figures, `table.tex` and `methods.tex` into a folder.

    Args:
        study: what was found.
        out_dir: the folder; made where missing.
        width_cm: of the figures.

    Raises:
        ConfigError: the folder cannot be written, or the width is outside 3-100 cm.

    """
    directory = Path(out_dir)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        written = [
            save(figure, directory / f"{file_name(chart, label)}.pdf", width_cm=width_cm)[0]
            for chart in all_charts(study)
            for label, figure in chart.views
        ]
        written.append(write_text(directory / "table.tex", table(study)))
        written.append(write_text(directory / "methods.tex", methods(study) + "\n"))
    except OSError as error:
        raise ConfigError(
            f"the paper's folder must be writable, but {error.filename or directory} is not "
            f"({error.strerror}); choose another"
        ) from error
    return written


def table(study: Analysis) -> str:
    """Return the parameters with intervals, then the frontier, as two LaTeX tables (booktabs)."""
    fit, rows = study.fit, []
    for name, value in fit.params.items():
        ends = fit.ends(name)
        band = "--" if ends is None else f"{ends[0]:.4g}--{ends[1]:.4g}"
        rows.append(rf"{SYMBOLS.get(name, escaped(name))} & {value:.4g} & {band} \\")
    level = f"{100 * fit.confidence:.0f}\\,\\%"
    budgets = [
        rf"{_power(r['flops'])} & {_power(r['params'])} & {_power(r['tokens'])} & {r['loss']:.4g} "
        rf"& {_range(r['loss_low'], r['loss_high'])} \\"
        for r in study.frontier.frame.to_dict("records")
    ]
    return "\n".join([
        f"% {fit.law} fitted to {len(study.points)} points; needs booktabs",
        r"\begin{tabular}{lrr}", r"\toprule",
        rf"parameter & value & {level} over resampled runs \\", r"\midrule", *rows,
        r"\bottomrule", r"\end{tabular}",
        *[rf"% correlation of log {scale} and {exponent}: {value:.4f}"
          for scale, exponent, value in correlations(study)], "",
        r"\begin{tabular}{rrrrr}", r"\toprule",
        rf"FLOP & $N$ & $D$ & {escaped(study.points.metric)} & {level} prediction interval \\",
        r"\midrule", *budgets, r"\bottomrule", r"\end{tabular}", "",
    ])  # fmt: skip


def correlations(study: Analysis) -> list[tuple[str, str, float]]:
    """Return (scale, exponent, correlation of the estimates): A and B mean little alone."""
    known = study.fit.joint.correlations
    return [
        (scale, exponent, float(known[exponent].loc[f"log_{scale}"]))
        for scale, exponent in (("A", "alpha"), ("B", "beta"))
        if f"log_{scale}" in known.index and exponent in known.columns
    ]


def methods(study: Analysis) -> str:
    """Return the methods paragraph, in LaTeX: what a reader needs to repeat the fit."""
    points, fit, joint = study.points, study.fit, study.fit.joint
    frame = points.frame
    parts = [
        f"We fitted the {joint.law.replace('_', ' ')} law to {len(points)} points from "
        f"{frame['run'].nunique()} runs ({_power(frame['flops'].min())} to "
        f"{_power(frame['flops'].max())} FLOP)."
    ]
    if points.notes:
        parts.append("Rows: " + escaped("; ".join(points.notes)) + ".")
    if study.tuning is not None:
        parts.append("Tuning: " + escaped(study.tuning) + ".")
    parts.append(
        rf"$N$ is {escaped(points.count)}; the median of $C/(ND)$ is "
        f"{points.flops_per_param_token:.3g}."
    )
    parts.append(
        f"The fit used {escaped(joint.method.replace('_', ' '))} from {joint.num_starts} starts, "
        f"of which {100 * joint.converged_share:.0f}\\,\\% ended at the optimum "
        f"(objective {joint.objective:.6g})."
    )
    if joint.notes:
        parts.append(escaped("; ".join(joint.notes)) + ".")
    if joint.bootstrap is not None:
        parts.append(
            f"Intervals of parameters are percentiles over {len(joint.bootstrap)} bootstrap "
            f"resamples of runs (seed {study.seed})."
        )
    if fit.conformal is not None and fit.heldout is not None:
        parts.append(
            f"Prediction intervals are conformal, calibrated by fitting below and predicting above "
            f"a moving budget ({fit.conformal.num} predictions; root mean square error of the log "
            f"loss {fit.heldout.rmse:.3g}, against {fit.heldout.naive_rmse:.3g} for carrying the "
            "last value forward)."
        )
        if fit.conformal.coverage is not None:
            parts.append(
                f"Nominally {100 * fit.confidence:.0f}\\,\\%, they covered "
                f"{100 * fit.conformal.coverage:.0f}\\,\\% of larger budgets held out."
            )
    for scale, exponent, value in correlations(study):
        parts.append(
            rf"The estimates of $\log {scale}$ and {SYMBOLS[exponent]} correlate at {value:.4f}: "
            "neither means much alone."
        )
    seeds = frame["seed"].dropna().unique()
    if len(seeds):
        parts.append(f"Training seeds: {', '.join(str(int(s)) for s in sorted(seeds)[:20])}.")
    return " ".join(parts)


def escaped(text: str) -> str:
    """Return text that LaTeX prints as it is."""
    return "".join(ESCAPES.get(character, character) for character in text)


def _power(value: float) -> str:
    mantissa, exponent = f"{value:.2e}".split("e")
    return rf"${mantissa}\times10^{{{int(exponent)}}}$"


def _range(low: float, high: float) -> str:
    return f"{low:.4g}--{high:.4g}" if np.isfinite(low) and np.isfinite(high) else "--"
