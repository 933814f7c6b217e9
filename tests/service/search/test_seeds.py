import pytest

from service import run_search
from service.scaling.running import run_study
from service.search.seeds import derived_seed, finalist_seed, trial_seed
from trainers.errors import ConfigError


def test_seeds_depend_on_every_argument_and_on_nothing_else():
    assert trial_seed(0, 1, 2, 3, 4) == trial_seed(0, 1, 2, 3, 4)
    seeds = {
        trial_seed(*numbers)
        for numbers in [(0, 0, 0, 0, 0), (1, 0, 0, 0, 0), (0, 1, 0, 0, 0), (0, 0, 1, 0, 0),
                        (0, 0, 0, 1, 0), (0, 0, 0, 0, 1)]
    }  # fmt: skip
    assert len(seeds) == 6


def test_finalists_share_seeds_that_no_trial_had():
    finalists = {finalist_seed(0, repeat) for repeat in range(100)}
    trials = {trial_seed(0, r, b, p, 0) for r in range(3) for b in range(3) for p in range(100)}
    assert len(finalists) == 100
    assert not finalists & trials


def test_seeds_fit_every_generator():
    assert all(0 <= derived_seed(0, "x", i) < 2**31 for i in range(1000))


STUDY = {
    "kind": "study",
    "sizes": {"model.width": [4, 8]},
    "budgets_flops": [2e6, 4e6],
    "limits": {"min_updates": 5},
    "tune": {"trials": 2, "space": {"optimizer.lr": {"log_uniform": [1e-3, 1e-1]}}},
}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": -1}, "`seed` must be a whole number from 0 to 2\\*\\*63 - 1, but got -1"),
        ({"seed": "a"}, "but got 'a'"),
        ({"seed": 2**63}, "but got 9223372036854775808"),
        ({"workers": 0}, "`workers` must be a whole number >= 1, but got 0; None takes one"),
        ({"workers": "2"}, "but got '2'"),
        ({"workers": True}, "but got True"),
    ],
)
def test_a_seed_or_number_of_workers_that_cannot_be_is_refused(tmp_path, options, words):
    ledger = tmp_path / "isoflop.db"
    with pytest.raises(ConfigError, match=words):
        run_search({"name": "z"}, ledger=ledger, folder=tmp_path / "runs", **options)
    with pytest.raises(ConfigError, match=words):
        run_study(STUDY, ledger=ledger, folder=tmp_path / "runs", **options)
    assert not ledger.exists()
