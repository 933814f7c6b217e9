"""`python -m tests.benchmarks [WHAT ...]`: measure, and write `tests/benchmarks/results/`.

Without a name everything but `anytime` runs, which takes over two hours in full. Run it on a
machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")


def main() -> None:
    """Run the benchmarks that were asked for, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    names = ("speed", "share", "scheduling", "architectures", "scaling", "service", "anytime")
    parser.add_argument(
        "what", nargs="*", default="all", choices=[*names, "all"], help="all: all but anytime"
    )
    parser.add_argument("--repeats", type=int, default=3, help="interleaved repeats")
    parser.add_argument("--few", type=int, default=32, help="trials of the slowest rivals")
    parser.add_argument("--contests", type=int, nargs="*", help="speed: only these, from 0")
    parser.add_argument("--seeds", type=int, default=10, help="anytime: seeds")
    parser.add_argument("--seconds", type=float, default=120.0, help="anytime: time of each run")
    parser.add_argument("--data", nargs="*", default=["digits", "mnist1d"], help="anytime: data")
    options = parser.parse_args()
    for name in names[:-1] if "all" in options.what else options.what:
        print(f"== {name}", flush=True)
        print(_run(name, options), flush=True)


def _run(name: str, options: argparse.Namespace) -> object:
    if name == "speed":
        from tests.benchmarks import speed

        return speed.main(options.repeats, options.few, options.contests)
    if name == "share":
        from tests.benchmarks import share_of_sgemm

        return share_of_sgemm.main(5 * options.repeats)
    if name == "scheduling":
        from tests.benchmarks import scheduling

        return scheduling.main(options.repeats)
    if name == "architectures":
        from tests.benchmarks import architectures

        return architectures.main(2 * options.repeats + 1)
    if name == "scaling":
        from tests.benchmarks import scaling

        return scaling.main(options.repeats)
    if name == "service":
        from tests.benchmarks import service_load

        return service_load.main(60.0)
    from tests.benchmarks import anytime

    return anytime.main(options.data, options.seeds, options.seconds)


if __name__ == "__main__":
    main()
