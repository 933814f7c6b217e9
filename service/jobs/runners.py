"""What a driver calls to run, resume and extend: a search's functions, or a study's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from service.jobs.records import JobKind
from service.ledger import Ledger


class Runner(Protocol):
    """One kind of work; each method returns the id of what it worked on."""

    def run(self, spec: Mapping[str, Any], **means: Any) -> str:
        """Run a spec to its end; `means` are those of `service.run_search`."""
        ...

    def resume(self, search_id: str, **means: Any) -> str:
        """Go on with what was cut off."""
        ...

    def extend(self, search_id: str, **options: Any) -> str:
        """Add to what has ended."""
        ...


class SearchRunner:
    """Searches, as `isoflop search` runs them."""

    def run(self, spec: Mapping[str, Any], **means: Any) -> str:
        """Run a search; see `service.run_search`."""
        from service import api

        return api.run_search(dict(spec), **means).search_id

    def resume(self, search_id: str, **means: Any) -> str:
        """Go on with a search; see `service.resume`."""
        from service import api

        return api.resume(search_id, **means).search_id

    def extend(self, search_id: str, **options: Any) -> str:
        """Add to a search; see `service.extend`."""
        from service import api

        return api.extend(search_id, **options).search_id


class StudyRunner:
    """Studies, as `isoflop scale run` runs them: what `verify` names is predicted, then trained."""

    def run(self, spec: Mapping[str, Any], **means: Any) -> str:
        """Run a study; see `service.scaling.running.run_study`."""
        from service.scaling.running import run_study
        from service.scaling.study import write_recorded

        return _verified(run_study(dict(spec), report=write_recorded, **means), **means)

    def resume(self, search_id: str, **means: Any) -> str:
        """Go on with a study, or with its verification."""
        from service.scaling.running import resume_study
        from service.scaling.study import write_recorded

        return _verified(resume_study(search_id, report=write_recorded, **means), **means)

    def extend(self, search_id: str, **options: Any) -> str:
        """Add sizes or budgets to a study."""
        from service.scaling.running import extend_study
        from service.scaling.study import write_recorded

        return _verified(extend_study(search_id, report=write_recorded, **options), **options)


MEANS = ("ledger", "workers", "address", "accept_changes", "display", "allowance")
"""What a verification needs of what a study was run with."""
RUNNERS: Mapping[JobKind, Runner] = {"search": SearchRunner(), "study": StudyRunner()}


def _verified(study_id: str, **means: Any) -> str:
    """Verify a finished study whose spec names a budget; too few points make it a warning."""
    from service.scaling.recorded import predictor
    from service.scaling.running import study_record
    from service.scaling.study import write_recorded
    from service.scaling.study_spec import StudySpec
    from service.scaling.verification import run_verification
    from trainers.errors import ScalingError

    with Ledger.open(means["ledger"]) as ledger:
        record = study_record(ledger, study_id)
        spec = StudySpec.from_mapping(dict(record.spec))
        if record.state != "finished" or record.reason or spec.verify is None:
            return study_id
        own = {name: value for name, value in means.items() if name in MEANS}
        try:
            run_verification(study_id, predictor(spec), report=write_recorded, **own)
        except ScalingError as error:
            ledger.add_event(study_id, "warning", {"text": f"not verified: {error}"})
    return study_id
