"""Reports: the answer in one sentence, tables for the terminal, and a page that opens offline."""

from service.report.outputs import Outputs, verdict_sentence, write_outputs
from service.report.summary import load_summary

__all__ = ["Outputs", "load_summary", "verdict_sentence", "write_outputs"]
