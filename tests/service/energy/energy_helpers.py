"""What several test files need: rows of a ledger, and a meter for real time."""

import time

from service.energy.meter import MeterFacts, Reading
from service.ledger import SegmentRecord, TrialRecord
from service.messages import Border


class RealTimeMeter:
    """12 W of CPU (2 W idle) and 5 W of memory, on the real clock; starts at once."""

    def start(self):
        self._started_s = time.monotonic()
        return MeterFacts(
            meter="constant",
            methods={"cpu": "constant", "ram": "constant", "gpu": "none"},
            cpu_idle_w=2.0,
            max_w=None,
        )

    def read(self):
        seconds = time.monotonic() - self._started_s
        return Reading(cpu_j=12.0 * seconds, ram_j=5.0 * seconds, gpu_j=0.0)

    def stop(self):
        pass


def new_search(ledger):
    record = ledger.create_search(
        name="test",
        kind="search",
        project="p",
        spec={},
        seed=0,
        mode="deterministic",
        versions={},
        code_fingerprint="f",
        out_dir=None,
    )
    return record.search_id


def add_usage(ledger, search_id, usages):
    """Write usages as a worker's first border does."""
    trial_ids = sorted({trial_id for usage in usages for trial_id in usage.trial_busy_s})
    ledger.add_trials(
        search_id,
        [
            TrialRecord(
                trial_id=trial_id,
                round=0,
                batch=0,
                role="search",
                config={},
                params={},
                config_id="c",
                seed=0,
                horizon_epochs=1,
            )
            for trial_id in trial_ids
        ],
    )
    segment = SegmentRecord(
        segment_id="s0", round=0, batch=0, rung=0, trial_ids=tuple(trial_ids), stop_epoch=1
    )
    ledger.add_segments(search_id, [segment])
    attempt = ledger.begin_attempt(search_id, "s0")
    ledger.apply(
        Border(
            search_id=search_id,
            segment_id="s0",
            attempt=attempt,
            sequence=0,
            rows=(),
            checkpoints=(),
            usage=tuple(usages),
        )
    )
