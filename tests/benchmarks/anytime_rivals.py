"""Who searches in `anytime`, each for a number of seconds: `python -m ...anytime_rivals NAME ...`.

Every rival's driver notes each epoch it hears of (`Report`); the list goes to stdout as JSON.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks import anytime_task as task
from tests.benchmarks.anytime_task import Report, Stopwatch
from tests.benchmarks.workload import NUM_WORKERS


def isoflop(data: str, seconds: float, seed: int) -> list[Report]:
    """Coarse to fine over two workers, within the same wall time; reported by its display."""
    from service import SearchSpec, run_search
    from service.search.display import Silent

    watch = Stopwatch()
    heard: list[tuple[float, Any]] = []

    class Listener(Silent):
        def epochs(self, rows: Sequence[Any]) -> None:
            heard.extend((watch.elapsed_s, row) for row in rows)

    refined = {
        "sampler": "tpe",
        "trials": 96,
        "epochs": task.MAX_EPOCHS,
        "halving": {"eta": 3, "first_epoch": 3},
        "refine": {"keep_best": 0.2},
    }
    spec = SearchSpec(
        name="anytime",
        data=data,
        model={"kind": "mlp"},
        space=task.space(),
        rounds=[{"sampler": "sobol", "trials": 96, "epochs": 3}, *[refined] * 5],
        recipe={"checks": False, "stop_gain": 0.0},
        finalists={"trials": 0},
        budget={"minutes": seconds / 60},
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder) / "isoflop.db"
        result = run_search(
            spec, workers=NUM_WORKERS, ledger=ledger, out=folder, display=Listener()
        )
        params = _params_of(result.trials())
    return [
        Report(
            elapsed_s=elapsed_s,
            trial=str(row.trial_id),
            epoch=row.epoch,
            val_error=row.metrics["val_error"],
            config=params[row.trial_id],
        )
        for elapsed_s, row in heard
        if row.trial_id in params
    ]


def _params_of(trials: Any) -> dict[int, dict[str, Any]]:
    """Return each trial's searched values from the table, without those that did not apply."""
    columns = [name for name in trials.columns if name.startswith("param.")]
    return {
        int(row["trial_id"]): {
            name.removeprefix("param."): _plain(row[name])
            for name in columns
            if row[name] == row[name] and row[name] is not None
        }
        for row in trials.to_dict("records")
    }


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value >= 1 and value.is_integer() else value


def suggest(trial: Any) -> dict[str, Any]:
    """Say the space in Optuna's words."""
    config = {
        "optimizer.kind": trial.suggest_categorical("optimizer.kind", task.KINDS),
        "optimizer.lr": trial.suggest_float("optimizer.lr", *task.LR, log=True),
        "optimizer.weight_decay": trial.suggest_float(
            "optimizer.weight_decay", *task.WEIGHT_DECAY, log=True
        ),
        "model.dropout": trial.suggest_float("model.dropout", *task.DROPOUT),
        "model.width": trial.suggest_categorical("model.width", task.WIDTHS),
        "model.depth": trial.suggest_categorical("model.depth", task.DEPTHS),
        "model.activation": trial.suggest_categorical("model.activation", task.ACTIVATIONS),
        "train.batch_size": trial.suggest_categorical("train.batch_size", task.BATCH_SIZES),
    }
    if config["optimizer.kind"] == "momentum":
        config["optimizer.momentum"] = trial.suggest_float("optimizer.momentum", *task.MOMENTUM)
    return config


def ray_tune(data: str, seconds: float, seed: int) -> list[Report]:
    """Ray Tune with OptunaSearch and ASHA, reused actors; the start of Ray is counted too."""
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    watch = Stopwatch()
    ray.init(num_cpus=NUM_WORKERS, include_dashboard=False, log_to_driver=False)

    class Listener(tune.Callback):
        def on_trial_result(self, *, trial: Any, result: dict[str, Any], **_: Any) -> None:
            watch.note(
                trial.trial_id, result["training_iteration"], result["val_error"], trial.config
            )

    def train(config: dict[str, Any]) -> None:
        torch.set_num_threads(1)
        task.train_point(data, config, 0, lambda epoch, error: tune.report({"val_error": error}))

    with tempfile.TemporaryDirectory() as storage:
        tune.Tuner(
            tune.with_resources(train, {"cpu": 1}),
            tune_config=tune.TuneConfig(
                search_alg=OptunaSearch(
                    space=suggest_only, metric="val_error", mode="min", seed=seed
                ),
                scheduler=ASHAScheduler(
                    metric="val_error",
                    mode="min",
                    max_t=task.MAX_EPOCHS,
                    grace_period=3,
                    reduction_factor=3,
                ),
                num_samples=-1,
                time_budget_s=seconds,
                max_concurrent_trials=NUM_WORKERS,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(storage_path=storage, verbose=0, callbacks=[Listener()]),
        ).fit()
    ray.shutdown()
    return watch.reports


def suggest_only(trial: Any) -> None:
    """Ask the space of an Optuna trial, as OptunaSearch wants it."""
    suggest(trial)


def optuna_one(data: str, seconds: float, seed: int) -> list[Report]:
    """Optuna's TPE and Hyperband in one process."""
    return _optuna(data, seconds, seed, None)


def optuna_two(data: str, seconds: float, seed: int) -> list[Report]:
    """The same in two processes that share a journal file."""
    return _in_two_processes(data, seconds, seed, "tpe")


def random_two(data: str, seconds: float, seed: int) -> list[Report]:
    """Random search in two processes, every trial at full length."""
    return _in_two_processes(data, seconds, seed, "random")


def _in_two_processes(data: str, seconds: float, seed: int, sampler: str) -> list[Report]:
    watch = Stopwatch()
    began_unix_s = time.time()
    with tempfile.TemporaryDirectory() as folder:
        arguments = [
            (data, seconds, seed + 1000 * number, f"{folder}/journal", sampler, began_unix_s)
            for number in range(NUM_WORKERS)
        ]
        with multiprocessing.get_context("spawn").Pool(NUM_WORKERS) as pool:
            found = pool.starmap(_optuna_worker, arguments)
    watch.reports = sorted((r for part in found for r in part), key=lambda r: r.elapsed_s)
    return watch.reports


def _optuna_worker(
    data: str, seconds: float, seed: int, journal: str, sampler: str, began_unix_s: float
) -> list[Report]:
    """Work on the shared study until the time since the driver's call is up."""
    late_s = time.time() - began_unix_s
    return _optuna(data, seconds, seed, journal, sampler, late_s)


def _optuna(
    data: str,
    seconds: float,
    seed: int,
    journal: str | None,
    sampler: str = "tpe",
    late_s: float = 0.0,
) -> list[Report]:
    import optuna

    watch = Stopwatch()
    watch.began_s -= late_s
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    backend = optuna.storages.journal.JournalFileBackend(journal) if journal else None
    study = optuna.create_study(
        study_name="anytime",
        storage=optuna.storages.JournalStorage(backend) if backend else None,
        load_if_exists=True,
        sampler=(
            optuna.samplers.TPESampler(seed=seed)
            if sampler == "tpe"
            else optuna.samplers.RandomSampler(seed=seed)
        ),
        pruner=(
            optuna.pruners.HyperbandPruner(3, task.MAX_EPOCHS, 3)
            if sampler == "tpe"
            else optuna.pruners.NopPruner()
        ),
    )

    def objective(trial: optuna.Trial) -> float:
        config = suggest(trial)
        last = 1.0

        def report(epoch: int, error: float) -> None:
            nonlocal last
            last = error
            watch.note(str(trial.number), epoch, error, config)
            trial.report(error, epoch)
            if trial.should_prune() or watch.elapsed_s > seconds:
                raise optuna.TrialPruned

        task.train_point(data, config, trial.number, report)
        return last

    study.optimize(objective, timeout=max(0.0, seconds - watch.elapsed_s))
    return watch.reports


RIVALS: dict[str, Callable[[str, float, int], list[Report]]] = {
    "isoflop": isoflop,
    "ray tune + OptunaSearch + ASHA": ray_tune,
    "optuna TPE + Hyperband, 1 process": optuna_one,
    "optuna TPE + Hyperband, 2 processes": optuna_two,
    "random, 2 processes": random_two,
}

if __name__ == "__main__":
    name, data_name, seconds_text, seed_text = sys.argv[1:5]
    reports = RIVALS[name](data_name, float(seconds_text), int(seed_text))
    print(json.dumps([report.to_mapping() for report in reports]))
