"""The energy statement: what a team's searches used in a span of time, and what that emitted.

The ledger stores energy only. Factors are dated rows beside it, so that CO2 can be computed again
when a better factor is known; what was published stays as it was.
"""

from service.energy.books.factors import FactorBook
from service.energy.books.statement import GROUPINGS, Statement, make_statement

__all__ = ["GROUPINGS", "FactorBook", "Statement", "make_statement"]
