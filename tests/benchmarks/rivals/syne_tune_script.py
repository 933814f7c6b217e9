"""One trial of Syne Tune: a script that takes its configuration as arguments and reports."""

from argparse import ArgumentParser

import torch
from syne_tune import Reporter

from tests.benchmarks.workload import Work, digits, train_plainly

if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = ArgumentParser()
    for name in ("lr", "momentum", "weight_decay"):
        parser.add_argument(f"--{name}", type=float, required=True)
    for name in ("width", "epochs"):
        parser.add_argument(f"--{name}", type=int, required=True)
    arguments, _ = parser.parse_known_args()
    reporter = Reporter()
    train_plainly(
        vars(arguments),
        Work(width=arguments.width, epochs=arguments.epochs),
        digits(),
        seed=0,
        report=lambda epoch, error: reporter(epoch=epoch, error=error),
    )
