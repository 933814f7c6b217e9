"""The lecture as data: its 68 pages, what it gets wrong, which test shows each row, and specs.

`pages.yaml`, `errata.yaml` and `rows.yaml` are read by `service.lecture`; `p*.yaml` are ordinary
specs that `isoflop search` runs as well.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
"""Where the files lie, in a checkout and in an installed package."""
