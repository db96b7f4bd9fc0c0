"""The stage: prompts, a pool of models and judges in; pairs with every answer, rating and question out.

    draw prompts → who answers what → answers as they come → ratings as prompts are complete → pairs → report

Servers are asked at once and side by side; verifiers and judges behind servers work while answers come, judges of this
machine after them. Every answer and every reply of a judge is on disk before it is used: a run that was killed asks
only for what is missing, and ends with the pairs of a run that was not. A source or judge that fails for good (no key,
no money, a budget that is reached, a server that is gone) ends by itself; the others go on, what came is kept, and
then the error is raised.

    pairs.parquet      the pairs (`core.pairs`)
    responses.jsonl    every answer, or why there is none; another run's pool can name it as a `file`
    ratings.jsonl      each judge's scores of each prompt's answers, by place
    judgements.jsonl   every question to a judge with its reply, every verdict; in the order in which they came
    report.md          counts, who wins, and what judges lean to (`report`)
"""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cameleer.core.artifact import CHECKPOINTS, METRICS, Outcome, json_line, write_jsonl
from cameleer.core.errors import UserError
from cameleer.core.log import MetricsLog, console, ticker
from cameleer.core.pairs import PAIRS, PreferencePair
from cameleer.core.stage import StageRun
from cameleer.core.types import turns
from cameleer.model.journal import Journal, Ledger
from cameleer.model.pool import Answer, Drawing, Source, answer_all, going_on, make_pool, require_keys
from cameleer.prefs.config import Method, PrefsConfig
from cameleer.prefs.pairs import make_pair
from cameleer.prefs.prompts import Prompt, draw_prompts
from cameleer.prefs.ratings import Answered, Judged, Rater, RatingThread, make_rater
from cameleer.prefs.recorded import read_pairs
from cameleer.prefs.report import Facts, Row, counts_of, judge_facts, markdown, summary_of
from cameleer.prefs.responses import Slot, assign
from cameleer.verify.pool import VerifierPool

RESPONSES = "responses.jsonl"
RATINGS = "ratings.jsonl"
JUDGEMENTS = "judgements.jsonl"
REPORT = "report.md"
SPENDING = "spending.jsonl"
NUM_METRICS = 200
"""Lines of metrics in a run, about."""
POLL_SECONDS = 0.2


def run(config: PrefsConfig, stage: StageRun) -> Outcome:
    """Make the pairs in `stage.folder`. Raises UserError for what is wrong, and where a source or judge has failed."""
    require_keys((*config.models, *config.judges))
    rows, spending = _make_rows(config, stage) if config.prompts else ([], {})
    dropped: dict[str, Counter[str]] = {each.name: Counter() for each in config.sources}
    recorded: Counter[str] = Counter()
    PAIRS.write(stage.folder, _all_pairs(config, stage, rows, dropped, recorded))
    judges = [judge_facts(each.name, rows) for each in config.judges] if rows else []
    facts = Facts(rows, judges, {each.name: recorded[each.name] for each in config.sources}, dropped, spending)
    (stage.folder / REPORT).write_text(markdown(facts), encoding="utf-8")
    for flag in facts.flags:
        console.print(f"  {flag}", style="yellow", markup=False, highlight=False)
    summary = summary_of(facts)
    console.print("  " + ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in summary.items()))
    if not summary["pairs"]:
        reasons = "; ".join(f"{count}: {reason.value}" for reason, count in facts.without_pair.most_common())
        raise UserError(f"{stage.name}: no prompt made a pair ({reasons}).", f"See {stage.folder / REPORT}.")
    return Outcome(counts=counts_of(facts), summary=summary)


def _all_pairs(
    config: PrefsConfig,
    stage: StageRun,
    rows: Iterable[Row],
    dropped: dict[str, Counter[str]],
    recorded: Counter[str],
) -> Iterator[PreferencePair]:
    for row in rows:
        if isinstance(row.pair, PreferencePair):
            yield row.pair
    for source in config.sources:
        path = stage.inputs[source.role] if source.file is not None else None
        for pair in read_pairs(source, path, stage.seed, dropped[source.name]):
            recorded[source.name] += 1
            yield pair


# --- prompts to rated answers ---


@dataclass
class Work:
    """All that answering and rating need, and what has come so far. `slots` and `answers` go by prompt, then place."""

    stage: StageRun
    prompts: list[Prompt]
    pool: dict[str, Source]
    raters: list[Rater]
    slots: list[list[Slot]]
    answers: list[list[Answer | None]]
    journal: Journal
    failures: list[UserError]

    def failed(self, failure: UserError) -> None:
        """Take note that a source or judge has ended; said at once, raised when the others are done."""
        self.failures.append(failure)
        console.print(f"  {failure.what} The others go on.", style="red", markup=False, highlight=False)

    def keep(self, slot: Slot, answer: Answer) -> None:
        """Put an answer on disk; a failure is asked for again by the next run."""
        if answer.text is not None:
            self.journal.append(_response_row(slot, answer))

    def answered(self, index: int) -> Answered | None:
        """A prompt with its answers once all are there."""
        answers = [answer for answer in self.answers[index] if answer is not None]
        is_complete = len(answers) == len(self.slots[index])
        return Answered(index, self.prompts[index], tuple(answers)) if is_complete else None


def _make_rows(config: PrefsConfig, stage: StageRun) -> tuple[list[Row], dict[str, dict[str, Any]]]:
    prompts = draw_prompts(config.prompts, stage.inputs, stage.seed)
    folder = stage.folder / CHECKPOINTS
    deadline = next((each.deadline_seconds for each in config.judges if each.method is Method.VERIFIER), 60.0)
    with ExitStack() as stack:
        ledger = stack.enter_context(closing(Ledger(folder / SPENDING)))
        journal = stack.enter_context(closing(Journal(folder / RESPONSES)))
        verifiers = stack.enter_context(VerifierPool(deadline_seconds=deadline))
        record = stack.enter_context(closing(_Judgements(stage.folder / JUDGEMENTS)))
        drawing = Drawing(config.max_new_tokens, config.temperature, config.top_p, stage.seed)
        pool = make_pool(config.models, drawing, stage, ledger)
        raters = [make_rater(each, stage, verifiers, ledger, record.write) for each in config.judges]
        slots = list(assign(prompts, pool, config, stage.seed))
        for prompt in prompts:
            if not any(rater.rates(prompt) for rater in raters):
                raise UserError(
                    f"prompts '{prompt.source}': no judge can rate {prompt.id}: it has no verifier.",
                    "Add a judge with method aspects, pairwise or reward_model, or set instructions.",
                )
        answers: list[list[Answer | None]] = [[None for _ in each] for each in slots]
        work = Work(stage, prompts, pool, raters, slots, answers, journal, [])
        _restore(work)
        judged = _answer_and_rate(work)
        if work.failures:
            first = work.failures[0]
            raise UserError(first.what, going_on(first.hint))
        rows = list(_rows(work, judged))
        write_jsonl(stage.folder / RESPONSES, _response_rows(rows))
        write_jsonl(stage.folder / RATINGS, _rating_rows(rows))
        return rows, ledger.spending()


def _restore(work: Work) -> None:
    """Take up the answers of an interrupted run."""
    places = {(slot.prompt.key, slot.place): slot for each in work.slots for slot in each}
    for row in work.journal.rows:
        slot = places.get((row["prompt"], row["place"]))
        if slot is not None and (row["model"], row["messages"]) == (slot.model, turns(slot.messages)):
            work.answers[slot.index][slot.place] = Answer(row["text"], row["finish_reason"], row["num_tokens"])
    work.journal.rows.clear()


def _answer_and_rate(work: Work) -> list[dict[str, Judged]]:
    """Each prompt's judgements by judge, in the judges' order. Where something has failed, they are incomplete."""
    judged: dict[str, dict[int, Judged]] = {}
    threads = [RatingThread(rater, work.failed) for rater in work.raters if not rater.waits]
    try:
        for index in range(len(work.slots)):
            _hand_over(work, index, threads)
        for slot in _answer(work):
            _hand_over(work, slot.index, threads)
        judged |= _finish(threads)
        for rater in work.raters:
            if rater.waits and not work.failures:
                threads = [RatingThread(rater, work.failed)]
                for index in range(len(work.slots)):
                    _hand_over(work, index, threads)
                judged |= _finish(threads)
    except BaseException:
        for thread in threads:
            thread.leave()
        raise
    names = [rater.name for rater in work.raters]
    return [
        {name: judged[name][index] for name in names if index in judged.get(name, {})}
        for index in range(len(work.slots))
    ]


def _hand_over(work: Work, index: int, threads: Sequence[RatingThread]) -> None:
    """Have a prompt rated if its answers are all there."""
    answered = work.answered(index)
    for thread in threads:
        if answered is not None and thread.rater.rates(answered.prompt):
            thread.put(answered)


def _answer(work: Work) -> Iterator[Slot]:
    """Have all slots answered that are not yet, and give them as they are."""
    missing = [slot for each in work.slots for slot in each if work.answers[slot.index][slot.place] is None]
    total = sum(map(len, work.slots))
    done = total - len(missing)
    failed = 0
    started = time.monotonic()
    with (
        closing(MetricsLog(work.stage.folder / METRICS, last_step=done)) as log,
        ticker("answers", total, done) as progress,
        closing(answer_all(missing, work.pool, work.keep, work.failed)) as answers,
    ):
        for number, (slot, answer) in enumerate(answers, 1):
            work.answers[slot.index][slot.place] = answer
            failed += answer.text is None
            rate = number / (time.monotonic() - started)
            if number == len(missing) or number % (1 + total // NUM_METRICS) == 0:
                log.write(step=done + number, missing_answers=failed, answers_per_second=round(rate, 3))
            progress.advance(note=f"{failed} missing  {rate:.1f} answers/s")
            yield slot


def _finish(threads: Sequence[RatingThread]) -> dict[str, dict[int, Judged]]:
    """Wait until all that was handed over is rated."""
    for thread in threads:
        thread.end()
    for thread in threads:
        with ticker(f"ratings by {thread.rater.name}", thread.num_items) as progress:
            shown = 0
            while not thread.wait(POLL_SECONDS) or shown < len(thread.judged):
                progress.advance(len(thread.judged) - shown)
                shown = len(thread.judged)
    return {thread.rater.name: thread.judged for thread in threads}


def _rows(work: Work, judged: Sequence[dict[str, Judged]]) -> Iterator[Row]:
    for index, slots in enumerate(work.slots):
        answered = work.answered(index)
        assert answered is not None, index
        found = judged[index]
        decides = next(iter(found.values()))
        pair = make_pair(answered.prompt, slots, answered.answers, decides.scores, work.stage.seed)
        yield Row(answered.prompt, slots, answered.answers, found, pair)


# --- what is left ---


class _Judgements:
    """The file of judgements, written anew by each process: those of earlier ones come again out of what they kept."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._lock = threading.Lock()

    def write(self, row: dict[str, Any]) -> None:
        line = json_line(row)
        with self._lock:
            self._file.write(line)

    def close(self) -> None:
        self._file.close()


def _response_row(slot: Slot, answer: Answer) -> dict[str, Any]:
    return {
        "prompt": slot.prompt.key,
        "place": slot.place,
        "model": slot.model,
        "relaxed": slot.relaxed,
        "messages": turns(slot.messages),
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "num_tokens": answer.num_tokens,
        "failure": answer.failure,
    }


def _response_rows(rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
    for row in rows:
        for slot, answer in zip(row.slots, row.answers, strict=True):
            yield _response_row(slot, answer)


def _rating_rows(rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
    for row in rows:
        for name, judged in row.judged.items():
            yield {"prompt": row.prompt.key, "judge": name, "scores": judged.scores}
