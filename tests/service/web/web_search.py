"""The search that the tests of the service submit, and one that has finished."""

from service.ledger import Ledger
from service.ledger.records import SearchRecord
from service.ledger.testing_records import border, round_record, segment_record, trial_record

SPEC = {
    "kind": "search",
    "name": "small",
    "project": "vision/plates",
    "data": {"name": "digits", "num_train": 100},
    "model": {"kind": "mlp", "depth": 1, "width": 8},
    "train": {"epochs": 2},
    "space": {"optimizer.lr": {"log_uniform": [1e-4, 1e-1]}},
    "objectives": {"val_error": "minimize"},
    "rounds": [{"sampler": "random", "trials": 4, "epochs": 2}],
}


def finished_search(ledger: Ledger, tmp_path, *, num_trials: int = 12) -> SearchRecord:
    folder = tmp_path / "files"
    folder.mkdir(exist_ok=True)
    (folder / "report.html").write_text("<h1>report</h1>")
    (folder / "secret.key").write_text("no")
    record = ledger.create_search(
        name="small", project="vision/plates", owner="ada", spec=SPEC, seed=0, out_dir=str(folder)
    )
    search_id = record.search_id
    ledger.put_round(search_id, round_record(0, state="finished", reasons=[{"text": "coarse"}]))
    ids = range(num_trials)
    ledger.add_trials(
        search_id,
        [
            trial_record(
                i,
                params={"optimizer.lr": 10 ** (-4 + 0.3 * (i % 10)), "optimizer.kind": "adam"},
                config={"optimizer": {"lr": 0.1}},
                horizon_epochs=3,
            )
            for i in ids
        ],
    )
    ledger.add_segments(search_id, [segment_record("r0b0s0", ids, stop_epoch=3)])
    attempt = ledger.begin_attempt(search_id, "r0b0s0")
    ledger.apply(
        border(search_id, attempt, [1, 2, 3], trial_ids=ids, val_error=0.5, train_loss=1.0)
    )
    states = {i: "pruned" if i % 4 == 3 else "complete" for i in ids}
    ledger.update_trials(
        search_id,
        [(i, {"state": states[i], "metrics": {"val_error": 0.5 - i / 40}}) for i in ids],
    )
    ledger.add_event(search_id, "warning", {"text": "`lr` was <b>narrow</b>"})
    ledger.update_search(search_id, state="finished", finished_unix_s=record.created_unix_s + 9)
    return ledger.search(search_id)
