"""The state of one test while it is made."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from vlserve.testgen import outcome
from vlserve.testgen.code import static_checks
from vlserve.testgen.code.secrets import Secrets
from vlserve.testgen.elements import Element, Locator, Look
from vlserve.testgen.judge.judge import Verdict
from vlserve.testgen.outcome import Mutation
from vlserve.testgen.page.inventory import Inventory, Seen
from vlserve.testgen.plan import Plan
from vlserve.testgen.planning.planner import Planned
from vlserve.testgen.result import Job, Outcome, Subject
from vlserve.testgen.run.runner import Run


@dataclass
class Generation:
    """What is known so far."""

    job: Job
    inventory: Inventory
    planned: Planned
    seen_as: dict[str, int] = field(default_factory=dict)
    """Element id → index of the element in the inventory of the picture."""
    before: Look = field(default_factory=lambda: Look(()))
    """The page before the steps; in a draft, the picture."""
    problem: str = ""
    """Why there is no test, or why it was not run."""
    not_on_page: list[Seen] = field(default_factory=list)
    verdict: Verdict | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    """The files of the test by name; empty where there is none."""
    file_name: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    """Element id → attribute of the page object."""
    locators: Mapping[str, Locator] = field(default_factory=dict)
    """Element id → the locator that the test uses."""
    page_title: str = ""
    checks: static_checks.Checks | None = None
    runs: list[Run] = field(default_factory=list)
    repairs: list[str] = field(default_factory=list)
    mutation: Mutation | None = None
    blocked: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    """Texts of alert(), confirm() and prompt(), which are dismissed."""
    viewport: tuple[int, int] = (0, 0)
    timeout_s: float | None = None

    @property
    def elements(self) -> list[Element]:
        return list(self.planned.elements.values())

    @property
    def code(self) -> str | None:
        return self.sources.get(self.file_name)

    @property
    def plan(self) -> Plan:
        """The plan with all that the test does not do, as far as it is known."""
        shortfalls = outcome.shortfalls(self.planned.plan, self.planned.elements, self.verdict, self.mutation)
        return self.planned.plan.model_copy(update={"uncovered": tuple(shortfalls)})

    @property
    def secrets(self) -> Secrets:
        """Of every step that was ever planned, taken or not."""
        steps = (*self.planned.steps, *self.planned.wanted)
        return Secrets(self.planned.plan.model_copy(update={"steps": steps}), self.elements)

    @property
    def outcome(self) -> Outcome:
        return outcome.decide(
            has_code=self.code is not None,
            last_run=self.runs[-1].outcome if self.runs else None,
            is_complete=not self.plan.uncovered,
            is_plan_only=self.job.is_plan_only,
        )

    @property
    def subject(self) -> Subject:
        result: Outcome = self.outcome if self.code is not None else "not_run"
        return Subject(self.viewport, self.job.url, result, self.timeout_s)
