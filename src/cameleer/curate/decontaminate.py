"""Decontamination: which sources overlap with which evaluations, what follows for their rows, and the certificate.

    overlap(source, evaluation) = items of the evaluation that overlap with some row of the source / its items
    a source is contaminated with an evaluation  iff  overlap > max_overlap                                   (0.02)

When an item overlaps with a row is the business of `overlap`, and of `similar` for embeddings. All rows of a source
count, sampled or not. Of a task's items the fields are its problems' own texts, else their user turns.

The certificate says what was compared with what and what was found; it stands in the manifest of the mixture, and from
there evaluations learn what the data of a model had seen. `overlaps.jsonl` has every overlap:

    {"train_id", "source", "eval_task", "eval_id", "share", "matched_text"}
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from cameleer.core.digest import digest_json
from cameleer.core.errors import UserError
from cameleer.core.log import console
from cameleer.core.processes import Executor
from cameleer.curate.config import Decontaminate, MatchMode, Policy
from cameleer.curate.overlap import Finder, Index, Item, Items, Prompt
from cameleer.curate.similar import SimilarItems
from cameleer.curate.take import Exclusion
from cameleer.tasks import SealedReader, find_task
from cameleer.tasks.mirror import content_digest

OVERLAPS = "overlaps.jsonl"


class TrainingRow(NamedTuple):
    """A row as it is compared; `number` tells it apart within its source."""

    number: int
    id: str
    prompt: Prompt


@dataclass(frozen=True)
class Evaluations:
    """What sources are compared with. `facts` describe each evaluation, by name."""

    items: list[Item] = field(default_factory=list[Item])
    facts: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])

    def add(self, name: str, items: Sequence[Item], facts: Mapping[str, Any]) -> None:
        """One more evaluation, with what is known of it beside its items."""
        compared = digest_json([[item.id, item.fields] for item in items])
        self.items.extend(items)
        self.facts[name] = {**facts, "items": len(items), "digest": compared}


def add_task(evaluations: Evaluations, name: str, num_generated: int, seed: int) -> None:
    """Add a task of the registry: all items of a benchmark, the first of a generated task.

    Raises UserError where the mirror lacks it.
    """
    task = find_task(name, SealedReader.DECONTAMINATE)
    try:
        problems = task.problems(None if task.datasets else num_generated, seed)
    except UserError as failure:
        raise UserError(f"decontamination against '{name}': {failure.what}", failure.hint) from None
    items = [
        Item(name, each.id, each.own_texts or tuple(turn.content for turn in each.messages if turn.role == "user"))
        for each in problems
    ]
    facts: dict[str, Any] = {"version": task.version}
    if task.datasets:
        facts["datasets"] = {str(split): content_digest(split) for split in task.datasets}
    else:
        facts["generated"] = {"items": num_generated, "seed": seed}
    evaluations.add(name, items, facts)


def make_finder(
    rules: Decontaminate,
    evaluations: Evaluations,
    embedding_model: Path | None,
    num_processes: int,
    executor: Executor,
) -> Finder:
    """What finds the items of the evaluations under the rules; for embeddings with the model in a folder."""
    if rules.mode is MatchMode.EMBEDDING:
        assert embedding_model is not None
        # In this process: a forward pass uses all cores, or the GPU.
        return Finder(SimilarItems(evaluations.items, rules.threshold, embedding_model))
    return Finder(Index(evaluations.items, rules.mode, rules.threshold, rules.ngram_size), num_processes, executor)


@dataclass
class Overlaps:
    """What the rows of a source have in common with the evaluations."""

    source: str
    num_rows: int = 0
    rows: dict[int, list[tuple[int, float]]] = field(default_factory=dict[int, list[tuple[int, float]]])
    """By row number the items that it overlaps with, and their shares."""
    items: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """By evaluation the items that some row overlaps with."""
    contaminated: tuple[str, ...] = ()
    """The evaluations with which the source is contaminated."""


def compare(source: str, rows: Iterable[TrainingRow], finder: Finder, max_overlap: float, file: TextIO) -> Overlaps:
    """Compare a source's rows with the evaluations of a finder's index; each overlap is a line of `file`."""
    index = finder.index
    found = Overlaps(source)
    seen: list[tuple[int, str]] = []

    def prompts() -> Iterator[Prompt]:
        for row in rows:
            seen.append((row.number, row.id))
            yield row.prompt

    for match in finder.matches(prompts()):
        number, id = seen[match.row]
        item = index.items[match.item]
        found.rows.setdefault(number, []).append((match.item, match.share))
        found.items[item.task].add(match.item)
        line = {"train_id": id, "source": source, "eval_task": item.task, "eval_id": item.id}
        line |= {"share": round(match.share, 4), "matched_text": match.matched_text}
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
    found.num_rows = len(seen)
    limit, sizes = Fraction(str(max_overlap)), index.num_items
    found.contaminated = tuple(task for task in sizes if len(found.items[task]) > limit * sizes[task])
    return found


def exclusions(overlaps: Overlaps, index: Items, policy: Policy) -> dict[int, Exclusion]:
    """By number the rows that a policy removes, for the item of a contaminating evaluation that they match most."""
    excluded: dict[int, Exclusion] = {}
    for number, matches in overlaps.rows.items() if policy is Policy.REMOVE else ():
        against = [(share, -item) for item, share in matches if index.items[item].task in overlaps.contaminated]
        if against:
            share, item = max(against)
            name = item_name(index.items[-item])
            excluded[number] = Exclusion(f"overlaps {name} ({share:.2f})", f"overlaps {index.items[-item].task}")
    return excluded


def whole_exclusion(overlaps: Overlaps, index: Items, policy: Policy) -> Exclusion | None:
    """Why all rows of a source are dropped, if they are."""
    if policy is not Policy.DROP_SOURCE or not overlaps.contaminated:
        return None
    parts = [f"{len(overlaps.items[task]) / index.num_items[task]:.1%} of {task}" for task in overlaps.contaminated]
    reason = f"its source overlaps {', '.join(parts)}"
    return Exclusion(reason, reason)


def announce(found: Overlaps, index: Items, policy: Policy) -> None:
    """Say aloud that a source is contaminated, and what follows."""
    for task in found.contaminated:
        items, total = len(found.items[task]), index.num_items[task]
        what = {
            Policy.REPORT: "reported only; decontaminate.policy says what to do",
            Policy.REMOVE: "overlapping rows are dropped",
            Policy.DROP_SOURCE: "the source is dropped",
        }[policy]
        console.print(
            f"[yellow]contaminated:[/] '{found.source}' overlaps {items} of {total} items of {task} "
            f"({items / total:.1%}); {what}"
        )


def item_name(item: Item) -> str:
    """TASK/ID, which the ids of built-in tasks are already."""
    return item.id if item.id.startswith(f"{item.task}/") else f"{item.task}/{item.id}"


def certificate(
    rules: Decontaminate, evaluations: Evaluations, index: Items, sources: Sequence[Overlaps]
) -> dict[str, Any]:
    """What was compared and found. `left` counts the items of an evaluation that overlap with rows not removed."""
    return {
        "measure": _measure(rules),
        "evaluations": {
            name: {
                **facts,
                "too_short": index.num_too_short[name],
                "left": len(set().union(*(_left(name, source, index, rules.policy) for source in sources))),
            }
            for name, facts in evaluations.facts.items()
        },
        "sources": {source.source: _found(source, index, rules.policy) for source in sources},
    }


def _measure(rules: Decontaminate) -> dict[str, Any]:
    """The rules, without those that the mode does not read."""
    unread = {"ngram_size"} if rules.mode is MatchMode.EMBEDDING else {"embedding_model"}
    return rules.model_dump(mode="json", exclude={"tasks", "num_generated", *unread})


def _left(task: str, overlaps: Overlaps, index: Items, policy: Policy) -> set[int]:
    """The items of an evaluation that the rows of a source which stay overlap with."""
    if whole_exclusion(overlaps, index, policy) is not None:
        return set()
    gone = exclusions(overlaps, index, policy)
    stay = (matches for number, matches in overlaps.rows.items() if number not in gone)
    return {item for matches in stay for item, _ in matches if index.items[item].task == task}


def _found(overlaps: Overlaps, index: Items, policy: Policy) -> dict[str, Any]:
    rows: defaultdict[str, set[int]] = defaultdict(set)
    for number, matches in overlaps.rows.items():
        for item, _ in matches:
            rows[index.items[item].task].add(number)
    whole = whole_exclusion(overlaps, index, policy) is not None
    return {
        "rows": overlaps.num_rows,
        "removed": overlaps.num_rows if whole else len(exclusions(overlaps, index, policy)),
        "overlaps": {
            task: {
                "items": len(items),
                "share": round(len(items) / index.num_items[task], 6),
                "rows": len(rows[task]),
                "contaminated": task in overlaps.contaminated,
            }
            for task, items in sorted(overlaps.items.items())
            if items
        },
    }
