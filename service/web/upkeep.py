"""What the service does by itself now and then: it keeps checkpoints within `storage.keep`."""

from __future__ import annotations

import logging
import threading

from service.jobs.settings import KeepSettings
from service.ledger import Ledger
from service.search.removal import collect_garbage

log = logging.getLogger("isoflop.upkeep")
EVERY_S = 3600.0


class Upkeep:
    """Collects garbage every hour, if the config says what may go. One thread of its own."""

    def __init__(self, ledger: Ledger, keep: KeepSettings) -> None:
        self._ledger, self._keep = ledger, keep
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        """Begin, where there is a rule."""
        if self._keep.days is not None or self._keep.max_gb is not None:
            self._thread.start()

    def close(self) -> None:
        """End after the present turn."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(60.0)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                removed = collect_garbage(
                    self._ledger, days=self._keep.days, max_gb=self._keep.max_gb
                )
            except Exception:  # a full or broken disk must not end the service
                log.exception("checkpoints could not be removed")
            else:
                if removed.num_files:
                    log.info("%d checkpoints removed", removed.num_files)
            self._ended.wait(EVERY_S)
