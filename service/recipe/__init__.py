"""The lecture's seven-step recipe: plans and verdicts, as pure functions.

The controller runs the trials that a plan asks for and hands their curves back; each step
answers with a `Verdict` that holds a word, a reason with numbers, and what follows.
"""

from service.recipe.curves import Curve, Diagnosis, consequence_of, diagnose, diagnose_round
from service.recipe.initial_loss import InitialFacts, initial_loss, measure
from service.recipe.lr_sweep import combine_sweeps, judge_lr_sweep, plan_lr_sweep
from service.recipe.overfit import LossCurve, Plan, judge_overfit, plan_overfit
from service.recipe.record import STEP_NAMES, Recipe, Verdict
from service.recipe.rounds import RoundFacts, coarse_round, keep_going, refined_round

__all__ = [
    "STEP_NAMES",
    "Curve",
    "Diagnosis",
    "InitialFacts",
    "LossCurve",
    "Plan",
    "Recipe",
    "RoundFacts",
    "Verdict",
    "coarse_round",
    "combine_sweeps",
    "consequence_of",
    "diagnose",
    "diagnose_round",
    "initial_loss",
    "judge_lr_sweep",
    "judge_overfit",
    "keep_going",
    "measure",
    "plan_lr_sweep",
    "plan_overfit",
    "refined_round",
]
