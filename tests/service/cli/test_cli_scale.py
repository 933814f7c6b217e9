"""`isoflop scale`: what it prints, and what it refuses with exit code 2."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from service.cli import main

LAW = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}


@pytest.fixture
def isoflop(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder; return exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ISOFLOP_LEDGER", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["isoflop", *arguments])
        try:
            main()
            code = 0
        except SystemExit as done:
            code = int(done.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def runs(tmp_path):
    """A table of 30 runs of a known law, in the words of whoever made it."""
    rng = np.random.default_rng(0)
    size = 10 ** rng.uniform(7, 9, 30)
    seen = size * 10 ** rng.uniform(0.5, 2.0, 30)
    loss = LAW["E"] + LAW["A"] * size ** -LAW["alpha"] + LAW["B"] * seen ** -LAW["beta"]
    frame = pd.DataFrame({"n": size, "d": seen, "val": loss * np.exp(0.003 * rng.normal(size=30)),
                          "state": "finished", "kwh": 6 * size * seen * 1e-18})  # fmt: skip
    frame.to_csv(tmp_path / "runs.csv", index=False)
    return frame


SIZES = ("--params", "n", "--tokens", "d", "--loss", "val")


def test_a_study_is_checked_by_the_same_word_as_a_search(isoflop, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "study.yaml").write_text(
        "kind: study\nsizes: {model.width: [4, 8]}\nbudgets_flops: [2e6, 4e6]\n"
        "limits: {min_updates: 5}\n"
        "tune: {trials: 2, space: {optimizer.lr: {log_uniform: [1e-3, 1e-1]}}}\n"
    )
    code, out, err = isoflop("check", "study.yaml", "--workers", "1")
    assert code == 0, err
    header = next(line for line in out.splitlines() if "params" in line)
    assert header.split()[:3] == ["size", "params", "purpose"]
    assert header.split()[-3:] == ["trials", "time", "kwh"]
    code, _, err = isoflop("search", "study.yaml")
    assert code == 2
    assert "`isoflop scale run` takes a study" in err


def test_help_teaches(isoflop):
    code, out, _ = isoflop("scale", "--help")
    assert code == 0
    assert all(word in out for word in ("run", "plan", "fit", "predict", "verify", "extend"))
    code, out, _ = isoflop("scale", "fit", "--help")
    assert "Example: isoflop scale fit" in out
    assert "--increasing" in out


def test_a_table_is_fitted_reported_and_asked_again(isoflop, runs, monkeypatch, tmp_path):
    monkeypatch.setattr("service.scaling.report.outputs.FORMATS", ("svg",))
    code, out, err = isoflop(
        "scale", "fit", "runs.csv", *SIZES, "--kwh", "kwh", "--bootstrap", "20", "--country", "FRA",
        "--knee", "0.02", "--out", "study", "--json",
    )  # fmt: skip
    assert code == 0, err
    found = json.loads(out)
    assert found["data"]["num_points"] == 30
    assert "flops derived as 6 x params x tokens" in found["data"]["notes"]
    assert found["fits"][0]["params"]["alpha"] == pytest.approx(LAW["alpha"], abs=0.15)
    assert found["knee"]["threshold"] == 0.02
    assert found["energy"]["kwh_per_flop"] == pytest.approx(1e-18)
    assert {path.name for path in (tmp_path / "study").iterdir()} >= {"report.html", "study.json"}
    code, out, err = isoflop("scale", "predict", "study/study.json", "--flops", "1e18", "--json")
    assert code == 0, err
    row = json.loads(out)["frontier"][0]
    assert row["loss_low"] < row["loss"] < row["loss_high"]
    assert row["kwh"] == pytest.approx(1.0)


def test_one_variable_gives_a_chart_and_the_gain_of_each_doubling(isoflop, tmp_path):
    """Elo that rises by 100, 50, 25, ... per doubling: E - k x^-1."""
    gpus = np.array([1, 2, 4, 8, 16, 32, 64])
    pd.DataFrame({"gpus": gpus, "elo": 3000 - 200 / gpus}).to_csv("elo.csv", index=False)
    code, out, err = isoflop("scale", "fit", "elo.csv", "--x", "gpus", "--y", "elo", "--increasing",
                             "--out", "elo", "--json")  # fmt: skip
    assert code == 0, err
    found = json.loads(out)["fits"][0]
    assert [row["gain_per_doubling"] for row in found["gains"]] == pytest.approx(
        [100, 50, 25, 12.5, 6.25, 3.125]
    )
    assert found["next_gain"] == pytest.approx(200 / 128, rel=0.05)
    assert (tmp_path / "elo" / "pictures" / "gains.png").exists()
    code, out, err = isoflop("scale", "predict", "elo", "--at", "128", "--at", "256", "--json")
    assert code == 0, err
    rows = json.loads(out)["forecast"]
    assert [row["value"] for row in rows] == pytest.approx([3000 - 200 / x for x in (128, 256)],
                                                           rel=1e-3)  # fmt: skip
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows)
    assert {row["naive"] for row in rows} == {3000 - 200 / 64}
    code, _, err = isoflop("scale", "predict", "elo", "--flops", "1e20")
    assert code == 2
    assert "elo over gpus; ask at gpus: --at VALUE" in " ".join(err.split())
    code, _, err = isoflop("scale", "predict", "elo", "--at", "-1")
    assert code == 2
    assert "gpus must be positive and finite, but got -1" in " ".join(err.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fit", "nowhere.csv", *SIZES), "nowhere.csv"),
        (("fit", "runs.csv", "--params", "n", "--loss", "val"), "two of params, tokens and flops"),
        (("fit", "runs.csv", "--params", "n", "--tokens", "d"), "--loss"),
        (("fit", "runs.csv", "--params", "m", "--tokens", "d", "--loss", "val"), "no column `m`"),
        (("fit", "runs.csv", *SIZES, "--where", "__import__('os')"), "where"),
        (("fit", "runs.csv", *SIZES, "--where", "n > 1e99"), "row"),
        (("fit", "runs.csv", *SIZES, "--where", "n > 9e8"), "add"),
        (("fit", "runs.csv", *SIZES, "--law", "chinchila"), "did you mean `chinchilla`"),
        (("fit", "runs.csv", *SIZES, "--country", "FR"), "FRA"),
        (("fit", "runs.csv", *SIZES, "--kwh-per-flop", "-1"), "kwh_per_flop"),
        (("fit", "runs.csv", *SIZES, "--confidence", "90"), "confidence"),
        (("fit", "runs.csv", *SIZES, "--knee", "2", "--bootstrap", "0"), "threshold"),
        (("fit", "runs.csv", *SIZES, "--increasing"), "--x and --y"),
        (("fit", "runs.csv", *SIZES, "--bootstrap", "-4"), "--bootstrap"),
        (("fit", "runs.csv", "--x", "n"), "both --x and --y"),
        (("fit", "runs.csv", "--x", "n", "--y", "vall"), "did you mean `val`"),
        (("fit", "runs.csv", "--x", "n", "--y", "state"), "lines 2, 3, 4, 5, 6"),
        (("fit", "runs.csv", "--x", "n", "--y", "val", "--tokens", "d"), "--tokens would do"),
        (("fit", "runs.csv", "--x", "n", "--y", "val", "--law", "kaplan"), "--law would do"),
        (("fit", "runs.csv", "--x", "n", "--y", "val", "--bootstrap", "9"), "--bootstrap would"),
        (("fit", "runs.csv", "--params", "n", "--tokens", "n", "--loss", "val"), "named twice"),
        (("fit", "flat.csv", *SIZES), "losses that differ"),
        (("predict", "nothing-1", "--flops", "1e20"), "no ledger"),
        (("predict", "folder", "--flops", "1e20"), "study.json"),
        (("predict", "runs.csv.json", "--flops", "1e20"), "cannot be read"),
        (("predict", "nothing-1"), "--flops"),
        (("predict", "nothing-1", "--flops", "1e20", "--at", "3"), "but got both"),
        (("verify", "nothing-1"), "no ledger"),
        (("extend", "nothing-1", "--size", "model.width"), "PATH=VALUE"),
        (("extend", "nothing-1", "--budget", "1e12"), "no ledger"),
        (("plan", "nowhere.yaml"), "nowhere.yaml"),
        (("run", "nowhere.yaml"), "nowhere.yaml"),
    ],
)
def test_bad_input_is_refused_with_the_next_step(isoflop, runs, tmp_path, arguments, message):
    (tmp_path / "folder").mkdir()
    flat = [f"{n},{d},2.5" for n in (1e6, 1e7, 1e8) for d in (1e8, 1e9, 1e10)]
    (tmp_path / "flat.csv").write_text("\n".join(["n,d,val", *flat]))
    code, _, err = isoflop("scale", *arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "isoflop.db").exists()


def test_fitting_a_table_loads_neither_torch_nor_ray(runs, tmp_path):
    asked = (
        "import sys; from service import ScalingStudy; "
        "ScalingStudy.from_csv('runs.csv', params='n', tokens='d', loss='val').fit(bootstrap=0); "
        "print([m for m in ('torch', 'ray', 'plotly', 'matplotlib', 'optuna') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", asked], cwd=tmp_path, capture_output=True,
                          text=True, timeout=120)  # fmt: skip
    assert done.stdout.strip() == "[]", done.stderr
