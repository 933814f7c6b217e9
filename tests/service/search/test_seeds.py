from service.search.seeds import derived_seed, finalist_seed, trial_seed


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
