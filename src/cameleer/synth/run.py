"""The stage: personas, instructions and models in; conversations with the check of each, and problems, out.

    draw items → prompts written → read → duplicates dropped → answers, tests → check → rows

All prompts are there before duplicates are looked for, and duplicates are gone before anything is answered: so what is
dropped depends on no order of arrival, and nothing is paid for what is dropped. Every reply is on disk before it is
used; a run that was killed asks only for what is missing, and ends with the rows of a run that was not.

    mixture.parquet   the conversations with their check (`ROWS`); a mixture to every other stage (`core.mixture`)
    problems.parquet  what a verifier can judge anyone's answer to (`core.problems`)
    items.jsonl       every prompt that was asked for: persona, instructions, what became of it, the check's detail
    replies.jsonl     every reply; another run's models can name it as a `file`
    report.md         counts by source (`report`)
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cameleer.core.artifact import CHECKPOINTS, METRICS, Outcome, write_jsonl
from cameleer.core.errors import UserError
from cameleer.core.log import MetricsLog, console, ticker
from cameleer.core.mixture import MIXTURE
from cameleer.core.problems import PROBLEMS
from cameleer.core.stage import StageRun
from cameleer.core.table import Table, conversations, strings, to_conversation
from cameleer.core.types import Conversation, Message, Problem, turns
from cameleer.model.journal import Journal, Ledger
from cameleer.model.pool import CUT_OFF, Answer, Drawing, Source, answer_all, going_on, make_pool, require_keys
from cameleer.synth.checks import Check, Checked, check_answers
from cameleer.synth.config import SynthConfig
from cameleer.synth.identity import identity_rows
from cameleer.synth.items import (
    Call,
    Item,
    answer_calls,
    described,
    draw_items,
    drop_duplicates,
    prompt_call,
    take_prompt,
    tests_key,
)
from cameleer.synth.report import TableFacts, markdown, table_facts
from cameleer.verify.pool import VerifierPool

REPLIES = "replies.jsonl"
ITEMS = "items.jsonl"
REPORT = "report.md"
SPENDING = "spending.jsonl"
IDENTITY = "identity"
NUM_METRICS = 200
"""Lines of metrics in a run, about."""


@dataclass(frozen=True, slots=True)
class Row:
    """A conversation with the check of its answer (`checks.Check`); `share` of the answers asked for were right."""

    id: str
    source: str
    messages: Conversation
    check: str
    share: float | None
    model: str


def _to_columns(rows: list[Row]) -> list[pa.Array]:
    return [
        strings(row.id for row in rows),
        strings(row.source for row in rows),
        conversations(row.messages for row in rows),
        strings(row.check for row in rows),
        pa.array([row.share for row in rows], pa.float64()),
        strings(row.model for row in rows),
    ]


def _to_row(id: str, source: str, messages: list[Any], check: str, share: float | None, model: str) -> Row:
    return Row(id, source, to_conversation(messages), check, share, model)


ROWS = Table[Row](
    name=MIXTURE.name,
    noun="synthetic mixture",
    schema=pa.schema(
        [
            *MIXTURE.schema,
            ("check", pa.string()),
            ("share", pa.float64()),
            ("model", pa.string()),
        ]
    ),
    to_columns=_to_columns,
    to_row=_to_row,
    size=lambda row: sum(len(message.content) for message in row.messages),
    optional=frozenset({"share"}),
)
"""The mixture's own file with columns beside: who reads a mixture does not see them, curation can filter by them."""


def run(config: SynthConfig, stage: StageRun) -> Outcome:
    """Make the rows in `stage.folder`. Raises UserError for what is wrong, and where a model has failed."""
    require_keys(config.models)
    about_itself, num_left_out = _identity(config, stage)
    items, checked, spending = _synthesise(config, stage) if config.prompts else ([], {}, {})
    rows = list(_rows(config, items, checked, about_itself))
    if not rows:
        raise UserError(f"{stage.name}: no prompt got an answer.", f"See {stage.folder / ITEMS}.")
    ROWS.write(stage.folder, rows)
    problems = list(_problems(items, checked))
    if problems:
        PROBLEMS.write(stage.folder, problems)
    tables = _facts(config, items, checked)
    identity = (len(about_itself), num_left_out) if config.identity is not None else None
    (stage.folder / REPORT).write_text(markdown(tables, identity, spending), encoding="utf-8")
    summary = {
        "rows": len(rows),
        "verified": sum(each.verified for each in tables),
        "problems": len(problems),
        "duplicates": sum(each.equal + each.near_duplicates for each in tables),
    }
    console.print("  " + ", ".join(f"{value} {name}" for name, value in summary.items()))
    characters = sum(map(ROWS.size, rows))
    counts = {
        **summary,
        "characters": characters,
        "sources": {each.name: each.counts() for each in tables},
        "spending": spending,
    }
    return Outcome(counts=counts, summary=summary)


def _identity(config: SynthConfig, stage: StageRun) -> tuple[list[Conversation], int]:
    if config.identity is None:
        return [], 0
    return identity_rows(config.identity.names, stage.inputs.get(IDENTITY))


# --- from items to checked answers ---


class Asker:
    """Asks the pool for replies and keeps them; those that an earlier process kept are not asked for again."""

    def __init__(self, pool: dict[str, Source], journal: Journal, log: MetricsLog) -> None:
        self._pool, self._journal, self._log = pool, journal, log
        self._kept = {row["key"]: row for row in journal.rows}
        self._step = 0
        journal.rows.clear()

    def ask(self, label: str, calls: Sequence[Call]) -> dict[str, Answer]:
        """The replies by key. Raises UserError when a model has failed for good, once the others are done."""
        found = {call.key: answer for call in calls if (answer := self._restored(call)) is not None}
        missing = [call for call in calls if call.key not in found]
        possible = [call for call in missing if self._can_answer(call)]
        failures: list[UserError] = []
        failed, started = 0, time.monotonic()
        with (
            ticker(label, len(calls), len(found)) as progress,
            closing(answer_all(possible, self._pool, self._keep, failures.append)) as answers,
        ):
            for number, (call, answer) in enumerate(answers, 1):
                found[call.key] = answer
                failed += answer.text is None
                rate = number / (time.monotonic() - started)
                if number == len(possible) or number % (1 + len(calls) // NUM_METRICS) == 0:
                    self._log.write(step=self._step + len(found), missing=failed, replies_per_second=round(rate, 3))
                progress.advance(note=f"{failed} missing  {rate:.1f}/s")
        if failures:
            raise UserError(failures[0].what, going_on(failures[0].hint))
        self._step += len(calls)
        return found

    def _restored(self, call: Call) -> Answer | None:
        row = self._kept.get(call.key)
        if row is None or (row["model"], row["messages"]) != (call.model, turns(call.messages)):
            return None
        return Answer(row["text"], row["finish_reason"], row["num_tokens"])

    def _can_answer(self, call: Call) -> bool:
        capacity = self._pool[call.model].capacity([call.messages])
        return capacity is None or call.sample < capacity

    def _keep(self, call: Call, answer: Answer) -> None:
        if answer.text is not None:
            self._journal.append(_reply_row(call, answer))


def _synthesise(
    config: SynthConfig, stage: StageRun
) -> tuple[list[Item], dict[int, Checked], dict[str, dict[str, Any]]]:
    """All items, the checks of those that have a prompt, and what servers were used for."""
    folder = stage.folder / CHECKPOINTS
    items = draw_items(config, stage.inputs, stage.seed)
    with ExitStack() as stack:
        ledger = stack.enter_context(closing(Ledger(folder / SPENDING)))
        journal = stack.enter_context(closing(Journal(folder / REPLIES)))
        log = stack.enter_context(closing(MetricsLog(stage.folder / METRICS, len(journal.rows))))
        drawing = Drawing(config.max_new_tokens, config.temperature, config.top_p, stage.seed)
        asker = Asker(make_pool(config.models, drawing, stage, ledger), journal, log)
        prompt_calls = {item.index: prompt_call(item, config, stage.seed) for item in items if not item.request}
        replies = asker.ask("prompts", list(prompt_calls.values()))
        for item in items:
            if item.index in prompt_calls:
                _take_prompt(item, replies.get(prompt_calls[item.index].key), stage.seed)
        drop_duplicates([item for item in items if not item.lost], config.duplicate_threshold, stage.folder)
        calls = {item.index: answer_calls(item, config) for item in items if not item.lost}
        replies |= asker.ask("answers", [call for each in calls.values() for call in each])
        checked = _check(config, [item for item in items if not item.lost], calls, replies)
        write_jsonl(stage.folder / ITEMS, (_item_row(item, checked.get(item.index)) for item in items))
        every = [*prompt_calls.values(), *(call for each in calls.values() for call in each)]
        write_jsonl(
            stage.folder / REPLIES, (_reply_row(call, replies[call.key]) for call in every if call.key in replies)
        )
    return items, checked, ledger.spending()


def _take_prompt(item: Item, reply: Answer | None, seed: int) -> None:
    if reply is None or reply.text is None:
        item.lost = "no prompt: " + ("not recorded" if reply is None else str(reply.failure).partition(":")[0])
    elif reply.finish_reason == CUT_OFF:
        item.lost = "prompt cut off"
    else:
        take_prompt(item, reply.text, seed)


def _check(
    config: SynthConfig, items: Sequence[Item], calls: Mapping[int, list[Call]], replies: Mapping[str, Answer]
) -> dict[int, Checked]:
    """The check of every item's answers."""
    with (
        VerifierPool(deadline_seconds=config.deadline_seconds) as pool,
        ThreadPoolExecutor(pool.num_workers) as threads,
    ):

        def check(item: Item) -> Checked:
            answers = [replies.get(call.key, Answer(None)) for call in calls[item.index] if call.key != tests_key(item)]
            return check_answers(item, answers, replies.get(tests_key(item)), pool)

        with ticker("checks", len(items)) as progress:
            found: dict[int, Checked] = {}
            for item, checked in zip(items, threads.map(check, items), strict=True):
                found[item.index] = checked
                progress.advance()
    return found


# --- what is left ---


def _rows(
    config: SynthConfig, items: Sequence[Item], checked: Mapping[int, Checked], about_itself: Sequence[Conversation]
) -> Iterator[Row]:
    for item in items:
        found = checked.get(item.index)
        if found is not None and found.text is not None:
            messages = (*item.messages, Message("assistant", found.text))
            model = config.answerer(item.table)
            yield Row(item.id, item.table.name, messages, found.check, found.share, model)
    for number, messages in enumerate(about_itself):
        yield Row(str(number), IDENTITY, messages, Check.UNCHECKED, None, "")


def _problems(items: Sequence[Item], checked: Mapping[int, Checked]) -> Iterator[Problem]:
    """The items that have a verifier. One that no answer satisfied yet has an empty gold."""
    for item in items:
        found = checked.get(item.index)
        if found is None or not found.verifier:
            continue
        metadata: dict[str, Any] = {"persona": item.persona, "source": item.table.name}
        if item.relaxed is not None:
            metadata["relaxed"] = turns(item.relaxed)
        gold = found.text if found.check is Check.VERIFIED and found.text is not None else ""
        yield Problem(
            item.key,
            f"synth-{item.table.kind.value.replace('_', '-')}",
            " + ".join(each.id for each in item.asked) or item.table.kind.value,
            item.messages,
            found.verifier,
            found.target,
            gold,
            metadata,
        )


def _facts(config: SynthConfig, items: Sequence[Item], checked: Mapping[int, Checked]) -> list[TableFacts]:
    return [table_facts([item for item in items if item.table is table], checked) for table in config.prompts]


def _item_row(item: Item, checked: Checked | None) -> dict[str, Any]:
    found = {} if checked is None else {"check": checked.check.value, "share": checked.share, "detail": checked.detail}
    return described(item) | found


def _reply_row(call: Call, answer: Answer) -> dict[str, Any]:
    return {
        "key": call.key,
        "model": call.model,
        "messages": turns(call.messages),
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "num_tokens": answer.num_tokens,
        "failure": answer.failure,
    }
