"""What a finished search or study may be extended by, checked before a job is queued for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from service.jobs.admission import admit
from service.jobs.settings import AllowSettings
from service.ledger import Ledger
from service.ledger.records import SearchRecord
from service.scaling.study_spec import StudySpec
from service.search.spec import SearchSpec
from trainers.errors import ConfigError

TO_SEARCHES = ("trials", "epochs", "space")
TO_STUDIES = ("budgets_flops", "sizes")


def check_addition(
    ledger: Ledger, search: SearchRecord, added: Mapping[str, Any], allow: AllowSettings
) -> dict[str, Any]:
    """Return what is to be added, without what was left out.

    Args:
        ledger: where the search stands.
        search: a search or study that has finished.
        added: `trials`, `epochs` or `space` of a search; `budgets_flops` or `sizes` of a study.
        allow: the rules that hold for a spec from the network.

    Raises:
        ConfigError: nothing is to be added, or it breaks a rule of the spec or of the service.

    """
    given = {name: value for name, value in added.items() if value is not None}
    if search.kind == "study":
        from service.scaling.running import extended

        _refuse_others(given, "study", TO_STUDIES)
        old = StudySpec.from_mapping(dict(search.spec))
        whole = extended(old, given.get("sizes"), given.get("budgets_flops", ()))
        admit(whole.to_mapping(), allow)
        return given
    from service.search.extension import plan_extension

    _refuse_others(given, "search", TO_SEARCHES)
    if "space" in given:
        admit({**search.spec, "space": dict(given["space"])}, allow)
    spec = SearchSpec.from_mapping(dict(search.spec))
    plan_extension(ledger, search, spec, *(given.get(name) for name in TO_SEARCHES))
    return given


def _refuse_others(given: Iterable[str], kind: str, names: tuple[str, ...]) -> None:
    for name in given:
        if name not in names:
            raise ConfigError(
                f"a {kind} is extended by {', '.join(names)}, but got `{name}`; leave it out"
            )
