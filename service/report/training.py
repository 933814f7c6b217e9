"""How trials were trained and compared: what the execution plans and the rungs say."""

from __future__ import annotations

from collections.abc import Sequence

from service.report.facts import Facts
from trainers.trial import ExecutionPlan

TIERS = {
    "kernels": "written-out kernels for many trials at once",
    "vmap": "torch.func.vmap, checked against the model alone",
    "lane_by_lane": "one trial after the other",
}


def how_trained(facts: Facts) -> list[str]:
    """Return a sentence per way of training: how, for how many kinds of model, and why."""
    alike: dict[tuple[str, str, str], list[ExecutionPlan]] = {}
    for plan in facts.plans.values():
        why = "; ".join(
            plan.reasons[choice] for choice in ("tier", "fuse_width") if plan.reasons.get(choice)
        )
        alike.setdefault((plan.tier, plan.device, why), []).append(plan)
    return [
        f"{TIERS[tier]} on {device}, {_widths(plans)}, {_kinds(len(plans))}"
        + (f": {why}" if why else "")
        for (tier, device, why), plans in alike.items()
    ]


def how_compared(facts: Facts, round_: int) -> str:
    """Say at which epochs a round's trials were compared, and by which value; empty if never."""
    rungs = [event.payload for event in facts.events_of("rung")]
    rungs = [payload for payload in rungs if payload["round"] == round_]
    if not rungs:
        return ""
    epochs = sorted({int(payload["epoch"]) for payload in rungs})
    best = any(payload.get("best_so_far") for payload in rungs)
    compared = (
        "the best value up to that epoch (restore-best is on)"
        if best
        else ("the value at that epoch")
    )
    names = " and ".join(objective.metric for objective in facts.objectives)
    ranked = ", by non-dominated rank" if len(facts.objectives) > 1 else ""
    stopped = sum(len(payload["pruned"]) for payload in rungs)
    where = (
        f"epoch {epochs[0]}"
        if len(epochs) == 1
        else (f"epochs {', '.join(map(str, epochs[:-1]))} and {epochs[-1]}")
    )
    return f"compared at {where} is {compared} of {names}{ranked}; {stopped} trials stopped there"


def _widths(plans: Sequence[ExecutionPlan]) -> str:
    low, high = min(p.fuse_width for p in plans), max(p.fuse_width for p in plans)
    return f"{low} together" if low == high else f"{low} to {high} together"


def _kinds(count: int) -> str:
    return "1 kind of model" if count == 1 else f"{count} kinds of model"
