"""What the service tells its drivers by their environment."""

from __future__ import annotations

import os
from pathlib import Path

import sqlalchemy as sa

from service.jobs.settings import ServiceSettings
from service.ledger import Ledger

PASSED_ON = (
    "ISOFLOP_HOME",
    "ISOFLOP_MNIST_DIR",
    "ISOFLOP_FASHION_MNIST_DIR",
    "ISOFLOP_COUNTRY",
    "ISOFLOP_PUE",
    "ISOFLOP_PRICE_PER_KWH",
)
"""What drivers take from the service's environment."""


def driver_environment(ledger: Ledger, settings: ServiceSettings) -> dict[str, str]:
    """Return what drivers need to find the ledger and the storage; the URL is never an argument.

    A URL that stands in a file is passed on as that file, so that the cluster's own records of
    jobs do not hold its password.
    """
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    passed["ISOFLOP_STORAGE"] = str(settings.storage.path.resolve())
    passed["PYTHONUNBUFFERED"] = "1"
    if settings.ledger.url_file is not None:
        passed["ISOFLOP_LEDGER_FILE"] = str(settings.ledger.url_file.resolve())
        return passed
    url = sa.make_url(ledger.url)
    if url.get_backend_name() == "sqlite":
        url = url.set(database=str(Path(str(url.database)).resolve()))
    passed["ISOFLOP_LEDGER"] = url.render_as_string(hide_password=False)
    return passed
