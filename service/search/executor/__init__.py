"""Where segments run: inline in this process, or on Ray workers behind the same interface."""

from service.search.executor.inline import InlineExecutor
from service.search.executor.protocol import Executor

__all__ = ["Executor", "InlineExecutor"]
