"""Reports: the answer in one sentence, tables for the terminal, and a page that opens offline.

Names load on first use: pages need pandas and a template engine, which a search that only trains
should not wait for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.report.outputs import Outputs, verdict_sentence, write_outputs
    from service.report.summary import load_summary

__all__ = ["Outputs", "load_summary", "verdict_sentence", "write_outputs"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "service.report.summary" if name == "load_summary" else "service.report.outputs"
    return getattr(import_module(home), name)
