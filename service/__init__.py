"""isoflop's service: searches, their ledger, their energy and their reports.

    from service import run_search, SearchSpec

Names are imported when they are first used, so that `isoflop --help` answers at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.api import SearchResult, extend, open_search, resume, run_search, stop
    from service.client import Client
    from service.client_async import AsyncClient
    from service.ledger import Ledger
    from service.scaling.curve_study import CurveStudy
    from service.scaling.study import ScalingStudy
    from service.search.spec import SearchSpec

__all__ = [
    "AsyncClient",
    "Client",
    "CurveStudy",
    "Ledger",
    "ScalingStudy",
    "SearchResult",
    "SearchSpec",
    "extend",
    "open_search",
    "resume",
    "run_search",
    "stop",
]

_HOME = {
    "AsyncClient": "service.client_async",
    "Client": "service.client",
    "Ledger": "service.ledger",
    "CurveStudy": "service.scaling.curve_study",
    "ScalingStudy": "service.scaling.study",
    "SearchSpec": "service.search.spec",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'service' has no attribute {name!r}")
    return getattr(import_module(_HOME.get(name, "service.api")), name)
