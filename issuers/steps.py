"""The steps of `check` as they become known: noted, heard of at once, and reported in their order."""

from collections.abc import Sequence
from datetime import timedelta

from issuers.base import CheckReport, CheckStep, Issued, Pending, StepOutcome, step_heard

OK, WARN, FAIL, SKIPPED = StepOutcome.OK, StepOutcome.WARN, StepOutcome.FAIL, StepOutcome.SKIPPED
EXPIRES_SOON = timedelta(days=90)
"""A CA or client certificate that ends within this is reported."""


class Steps:
    """What is known of the steps `names` of one check."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._known: dict[str, CheckStep] = {}

    def note(self, name: str, outcome: StepOutcome, message: str) -> None:
        """How a step went, in words for an operator."""
        self._known[name] = step = CheckStep(name, outcome, message)
        step_heard.get()(step)

    @property
    def failed(self) -> bool:
        """Whether one did."""
        return any(step.outcome is FAIL for step in self._known.values())

    def report(self, issued: Issued | Pending | None) -> CheckReport:
        """All of them; a step that failed has left out those that build on it. `issued` is the test certificate."""
        for name in self._names:
            if name not in self._known:
                self.note(name, SKIPPED, "an earlier step failed")
        return CheckReport(tuple(self._known[name] for name in self._names), issued)
