"""What a synthesis gave: per table of prompts, how many came through each step.

asked → parsed → distinct → answered → verified        share = verified / answered, with Wilson's 95% interval
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cameleer.core.interval import wilson_interval
from cameleer.core.markdown import table
from cameleer.synth.checks import Check, Checked
from cameleer.synth.items import Item

COUNTS = ("asked", "parsed", "equal", "near-duplicates", "answered", "verified", "failed", "undecided")
HEAD = ("source", "kind", *COUNTS, "share (95%)")
DUPLICATES = ("equal to ", "near-duplicate of ")


@dataclass(frozen=True, slots=True)
class TableFacts:
    """The counts of one table of prompts. `undecided` are those of `answered` that are neither verified nor failed."""

    name: str
    kind: str
    asked: int
    parsed: int
    equal: int
    near_duplicates: int
    answered: int
    verified: int
    failed: int
    undecided: int
    reasons: dict[str, int]
    """Why checks were undecided, and why prompts have no row."""

    @property
    def share(self) -> float | None:
        return self.verified / self.answered if self.answered else None

    def counts(self) -> dict[str, Any]:
        """As JSON."""
        interval = wilson_interval(self.verified, self.answered)
        found = {name: getattr(self, name) for name in self.__slots__}
        return {**found, "verified_share": self.share, "interval": [interval.low, interval.high]}


def table_facts(items: Sequence[Item], checked: Mapping[int, Checked]) -> TableFacts:
    """The facts of a table's items."""
    found = [checked[item.index] for item in items if item.index in checked]
    answered = [each for each in found if each.text is not None]
    checks = Counter(each.check for each in answered)
    lost = Counter(_kind_of(item.lost) for item in items if item.lost)
    reasons = Counter({reason: times for reason, times in lost.items() if reason not in DUPLICATES})
    reasons.update(each.detail["reason"] for each in found if each.check is Check.UNDECIDED and "reason" in each.detail)
    equal, near = (lost[begins] for begins in DUPLICATES)
    return TableFacts(
        name=items[0].table.name,
        kind=items[0].table.kind.value,
        asked=len(items),
        parsed=len(found) + equal + near,
        equal=equal,
        near_duplicates=near,
        answered=len(answered),
        verified=checks[Check.VERIFIED],
        failed=checks[Check.FAILED],
        undecided=checks[Check.UNDECIDED],
        reasons=dict(reasons.most_common()),
    )


def _kind_of(lost: str) -> str:
    return next((begins for begins in DUPLICATES if lost.startswith(begins)), lost)


def markdown(
    tables: Sequence[TableFacts], identity: tuple[int, int] | None, spending: Mapping[str, Mapping[str, Any]]
) -> str:
    """The report. `identity` holds the rows made of the template and those left out."""
    lines = ["# Synthesis", ""]
    if tables:
        lines += [
            table(HEAD, map(_row, tables), right=range(2, 2 + len(COUNTS))),
            "",
            "Share: verified of answered. What verified means for each kind is in docs/synth.md.",
        ]
        for each in tables:
            lines += [f"* {each.name}: {count} × {reason}" for reason, count in each.reasons.items()]
    if identity is not None:
        lines += ["", f"identity: {identity[0]} rows, {identity[1]} of the template left out for want of names."]
    for who, used in spending.items():
        cost = "" if used["cost"] is None else f", cost {used['cost']:.4f}"
        unmetered = f", {used['unmetered_replies']} replies unmetered" if used["unmetered_replies"] else ""
        lines.append(
            f"* {who}: {used['prompt_tokens']} tokens read, {used['completion_tokens']} written{cost}{unmetered}"
        )
    return "\n".join(lines) + "\n"


def _row(facts: TableFacts) -> list[object]:
    interval = wilson_interval(facts.verified, facts.answered)
    share = "–" if facts.share is None else f"{facts.share:.1%} ({interval.low:.1%} to {interval.high:.1%})"
    cells = [facts.name, facts.kind, facts.asked, facts.parsed, facts.equal, facts.near_duplicates, facts.answered]
    return [*cells, facts.verified, facts.failed, facts.undecided, share]
