"""What hardware and size bring: AlphaGo (p. 4), decoders (p. 64), compute (p. 65), CO2 (p. 66)."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd

from service.energy import Site
from service.lecture.findings import PALETTE, Findings, label, new_figure
from trainers.config import (
    Count,
    DataConfig,
    ModelConfig,
    NonNegative,
    Positive,
    Section,
    TrialConfig,
)
from trainers.data import load
from trainers.lanes.pack import train_pack
from trainers.lanes.plan import make_plan
from trainers.trial import Trial

ALPHAGO = pd.DataFrame(
    {"threads": [12, 24, 40, 64], "cpus": [428, 764, 1202, 1920], "gpus": [64, 112, 176, 280],
     "elo": [2937, 3079, 3140, 3168]}
)  # fmt: skip
"""Silver et al., Nature 2016: distributed AlphaGo, 2 s a move, BayesElo."""


class Hardware(Section):
    """The packs of small nets whose throughput is measured with the same fit."""

    lanes: tuple[Count, ...] = (1, 2, 4, 8, 16)
    width: Count = 32
    epochs: Count = 3


def alphago(settings: Hardware) -> Findings:
    """Fit Elo per doubling of GPUs, and our own training throughput per doubling of lanes."""
    table = ALPHAGO.copy()
    doublings = np.log2(table["gpus"].to_numpy(float))
    table["elo_per_doubling"] = [np.nan, *(np.diff(table["elo"]) / np.diff(doublings))]
    slope = float(np.polyfit(doublings, table["elo"], 1)[0])
    own = pd.DataFrame([{"lanes": n, "lane_epochs_per_s": _throughput(n, settings)}
                        for n in settings.lanes])  # fmt: skip
    figure, axes = new_figure(1, 2)
    axes[0, 0].plot(table["gpus"], table["elo"], "o-", label=f"{slope:.0f} Elo per doubling")
    axes[0, 1].plot(own["lanes"], own["lane_epochs_per_s"], "o-", color=PALETTE[2], label="ours")
    for one in axes[0]:
        one.set_xscale("log", base=2)
    label(axes[0, 0], "AlphaGo's strength", "GPUs", "Elo")
    label(
        axes[0, 1], "nets trained together here", "nets in a pack", "epochs of one net per second"
    )
    measures: dict[str, float | str] = {
        "Elo per doubling of GPUs, fitted": slope,
        "Elo per doubling, 64 to 112 GPUs": float(table["elo_per_doubling"].iloc[1]),
        "Elo per doubling, 176 to 280 GPUs": float(table["elo_per_doubling"].iloc[3]),
        f"our throughput, {settings.lanes[-1]} nets over {settings.lanes[0]}": float(
            own["lane_epochs_per_s"].iloc[-1] / own["lane_epochs_per_s"].iloc[0]
        ),
    }
    joined = pd.concat([table.assign(what="AlphaGo"), own.assign(what="our packs")])
    return Findings(table=joined, measures=measures, figure=figure)


def _throughput(num_lanes: int, settings: Hardware) -> float:
    config = TrialConfig(
        data=DataConfig(name="digits"), model=ModelConfig(depth=2, width=settings.width)
    ).with_values({"train.epochs": settings.epochs})
    trials = [Trial(trial_id=i, config=config, seed=i) for i in range(num_lanes)]
    dataset = load(config.data)
    plan = make_plan(trials, dataset, "cpu")
    began = time.perf_counter()
    train_pack(trials, None, settings.epochs, dataset=dataset, plan=plan)
    return num_lanes * settings.epochs / (time.perf_counter() - began)


LANGUAGE_MODELS = pd.DataFrame(
    [("GPT-3", 96, 12288, 175e9), ("PaLM", 118, 18432, 540e9), ("LLaMA-2 7B", 32, 4096, 6.74e9),
     ("LLaMA-2 70B", 80, 8192, 69e9), ("BloombergGPT", 70, 7680, 50.6e9)],
    columns=["model", "layers", "width", "published"],
)  # fmt: skip
"""Layers L, width d and parameters as their papers give them."""


class Sizes(Section):
    """A decoder of your own beside the published ones (p. 64)."""

    layers: Count = 12
    width: Count = 768


def decoders(settings: Sizes) -> Findings:
    """Compare 12 L d^2 (4 d^2 of attention and 8 d^2 of the feed-forward part) with papers."""
    mine = {
        "model": "yours",
        "layers": settings.layers,
        "width": settings.width,
        "published": np.nan,
    }
    table = pd.concat([LANGUAGE_MODELS, pd.DataFrame([mine])], ignore_index=True)
    table["12 L d^2"] = 12.0 * table["layers"] * table["width"] ** 2.0
    table["ratio"] = table["12 L d^2"] / table["published"]
    figure, axes = new_figure()
    place = np.arange(len(table))
    axes[0, 0].bar(place - 0.2, table["12 L d^2"], 0.4, label="12 L d²")
    axes[0, 0].bar(place + 0.2, table["published"], 0.4, label="published")
    axes[0, 0].set_yscale("log")
    axes[0, 0].set_xticks(place, table["model"], fontsize=8)
    label(axes[0, 0], "parameters of decoders", "", "parameters")
    measures: dict[str, float | str] = {
        f"12 L d^2 over published, {row['model']}": float(row["ratio"])
        for _, row in table.dropna().iterrows()
    }
    measures["12 L d^2, yours"] = float(table["12 L d^2"].iloc[-1])
    return Findings(table=table, measures=measures, figure=figure)


COMPUTE = pd.DataFrame(
    [
        # model, parameters, tokens, lecture's FLOPs, devices, days, peak FLOP/s, utilisation
        ("GPT-3", 175e9, 300e9, 1e21, 1024, 34, 312e12, 0.45),
        ("PaLM", 540e9, 780e9, 1e22, 6144, 50, 275e12, 0.46),
        ("GPT-4 (estimate)", np.nan, np.nan, 1e23, 25000, 100, 312e12, 0.35),
    ],
    columns=["model", "params", "tokens", "lecture", "devices", "days", "peak", "utilisation"],
)
"""Brown 2020, Chowdhery 2022 (published: 2.5e24), and public estimates for GPT-4. GPT-3's 1,024
A100 for 34 days is Megatron's projection, not how it was trained."""


class Compute(Section):
    """A training run of your own (p. 65)."""

    params: Positive = 7e9
    tokens: Positive = 2e12
    devices: Positive = 1024
    peak: Positive = 312e12
    """FLOP/s of one device."""
    utilisation: Positive = 0.4


def compute(settings: Compute) -> Findings:
    """Count 6 N D, and devices times seconds times peak times utilisation, beside the page's."""
    yours = {"model": "yours", **settings.model_dump(), "lecture": np.nan, "days": np.nan}
    table = pd.concat([COMPUTE, pd.DataFrame([yours])], ignore_index=True)
    table["6ND"] = 6 * table["params"] * table["tokens"]
    speed = table["devices"] * table["peak"] * table["utilisation"]
    table["hardware"] = speed * table["days"] * 86400
    table["days_from_6ND"] = table["6ND"] / speed / 86400
    figure, axes = new_figure()
    place = np.arange(len(table))
    for offset, column in ((-0.27, "lecture"), (0.0, "6ND"), (0.27, "hardware")):
        axes[0, 0].bar(place + offset, table[column], 0.25, label=column)
    axes[0, 0].set_yscale("log")
    axes[0, 0].set_xticks(place, table["model"], fontsize=8)
    label(axes[0, 0], "training compute", "", "FLOPs")
    measures: dict[str, float | str] = {}
    for _, row in table.iterrows():
        for column in ("6ND", "hardware"):
            if np.isfinite(row[column]):
                measures[f"FLOPs of {row['model']} by {column}"] = float(row[column])
        if np.isfinite(row["6ND"]) and np.isfinite(row["hardware"]):
            measures[f"hardware over 6ND, {row['model']}"] = float(row["hardware"] / row["6ND"])
    measures["days for yours"] = float(table["days_from_6ND"].iloc[-1])
    return Findings(table=table, measures=measures, figure=figure)


POUND_KG = 0.45359237


class Carbon(Section):
    """Energy to compare with the page's activities (p. 66)."""

    kwh: NonNegative = 1.0
    g_per_kwh: Positive | None = None
    """Carbon intensity; None: the site's (ISOFLOP_COUNTRY), else Strubell's 0.954 lb per kWh."""


def carbon(settings: Carbon) -> Findings:
    """Put the page's numbers in tonnes beside corrected ones and an energy of your own."""
    site = Site.from_environment()
    intensity = settings.g_per_kwh or site.intensity_g_per_kwh or 0.954 * POUND_KG * 1000
    yours_t = settings.kwh * intensity / 1e6
    rows = [
        ("flight New York - San Francisco and back", 1984 * POUND_KG / 1e3, "lecture"),
        ("US car, lifetime with fuel", 126_000 * POUND_KG / 1e3, "lecture"),
        ("architecture search, 213M Transformer", 626_155 * POUND_KG / 1e3, "lecture"),
        ("the same search, corrected (÷ 88)", 626_155 * POUND_KG / 1e3 / 88, "published"),
        ("GPT-3, one training run", 552.0, "published"),
        (f"yours: {settings.kwh:g} kWh", yours_t, "ours"),
    ]
    table = pd.DataFrame(rows, columns=["activity", "tonnes_co2e", "source"])
    figure, axes = new_figure()
    figure.set_size_inches(10, 3.8)
    colours = {"lecture": PALETTE[1], "published": PALETTE[0], "ours": PALETTE[2]}
    axes[0, 0].barh(table["activity"], table["tonnes_co2e"],
                    color=[colours[s] for s in table["source"]])  # fmt: skip
    axes[0, 0].set_xscale("log")
    label(
        axes[0, 0], "red: the page; blue: published; green: yours", "tonnes CO2e", "", legend=False
    )
    car_t = 126_000 * POUND_KG / 1e3
    measures: dict[str, float | str] = {
        "search over car lifetime": 626_155 / 126_000,
        "search, tonnes": 626_155 * POUND_KG / 1e3,
        "GPT-3 over car lifetime": 552.0 / car_t,
        "corrected search over car lifetime": 626_155 / 88 / 126_000,
        "yours, kgCO2e": yours_t * 1e3,
        "intensity used, g per kWh": intensity,
    }
    return Findings(table=table, measures=measures, figure=figure)
