"""A damaged checkpoint costs time, never a trial and never a number."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_search import assert_same_outcome, small_spec

from service import resume, run_search
from service.ledger import Ledger
from service.search.display import Silent


class StopsAtARung(Silent):
    """Ends the driver at once, as soon as trials were promoted."""

    def tick(self, context):
        if context.ledger.events(context.search_id, "rung"):
            raise KeyboardInterrupt


def _flip_a_byte_in_the_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 4, 3 * len(content) // 4, 64):
        content[place] ^= 0xFF
    path.write_bytes(bytes(content))


def _cut_in_half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("damage", [_flip_a_byte_in_the_middle, _cut_in_half])
def test_trials_whose_checkpoint_is_damaged_are_trained_anew(damage, tmp_path, undisturbed):
    ledger = tmp_path / "ledger.db"
    spec = small_spec(name="small")
    with pytest.raises(KeyboardInterrupt):
        run_search(spec, workers=1, ledger=ledger, out=tmp_path / "out", display=StopsAtARung())
    files = list((tmp_path / "out" / "checkpoints").glob("*.pt"))
    assert files
    for path in files:
        damage(path)
    result = resume("small-1", ledger=ledger, workers=1)
    with Ledger.open(str(ledger)) as opened:
        warnings = [e.payload["text"] for e in opened.events("small-1", "warning")]
    assert any("trained again from their beginning" in text for text in warnings)
    assert not (result.trials()["state"] == "failed").any()
    assert_same_outcome(result, undisturbed)
