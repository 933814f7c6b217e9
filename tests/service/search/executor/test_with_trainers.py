"""Both executors around isoflop's own trainers: the same numbers, to the last bit."""

import pytest
from executor_fakes import listen, order

from service.messages import Border, Finished, Planned
from service.search.executor import InlineExecutor
from service.search.executor.ray_executor import RayExecutor
from trainers.config import TrialConfig
from trainers.trial import Trial

CONFIG = TrialConfig.from_mapping(
    {"data.num_train": 128, "model.width": 16, "model.dropout": 0.1, "train.epochs": 4}
)


def orders(directory):
    trials = tuple(
        Trial(trial_id=n, config=CONFIG.with_values({"optimizer.lr": 10.0**-n}), seed=n)
        for n in (1, 2, 3)
    )
    return [
        order(directory, "both", (1, 2, 3), trials=trials, stop_epoch=2, plan=None),
        order(directory, "alone", (3,), trials=trials[2:], stop_epoch=4, plan=None),
    ]


def told_by(executor, directory):
    for an_order in orders(directory):
        executor.submit(an_order)
    told = listen(executor, 2)
    executor.close()
    assert len(told.of(Finished)) == 2, told.messages
    return told


@pytest.fixture(scope="module")
def inline(tmp_path_factory):
    return told_by(InlineExecutor(), tmp_path_factory.mktemp("inline"))


def test_ray_gives_the_numbers_of_inline(local_ray, inline, tmp_path):
    told = told_by(RayExecutor(2), tmp_path)
    for name in ("both", "alone"):
        assert [(row.trial_id, row.epoch, row.metrics) for row in told.rows(name)] == [
            (row.trial_id, row.epoch, row.metrics) for row in inline.rows(name)
        ]
        assert len(told.of(Planned, name)) == 1


def test_a_second_segment_goes_on_from_the_firsts_checkpoints(inline, tmp_path):
    [border] = inline.of(Border, "both")
    first = orders(tmp_path)[0]
    executor = InlineExecutor()
    executor.submit(
        order(
            tmp_path,
            "on",
            (3,),
            trials=first.trials[2:],
            start=tuple(border.checkpoints[2:]),
            stop_epoch=4,
            plan=inline.of(Planned, "both")[0].plan,
        )
    )
    rows = listen(executor).rows()
    executor.close()
    straight = inline.rows("alone")
    assert [row.epoch for row in rows] == [3, 4]
    for row, expected in zip(rows, straight[2:], strict=True):
        assert row.metrics["val_loss"] == pytest.approx(expected.metrics["val_loss"], rel=1e-5)
