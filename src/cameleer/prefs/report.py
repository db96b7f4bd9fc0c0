"""What the ratings are worth: missing ones, ties, who wins, and whether a judge leans to a place, a length or a model.

Within a prompt, with scores s and lengths l (characters) of its usable answers:

    place        share of orders whose best answer stands first (last), less 1/n of n shown; orders with a tie for best
                 are left out
    consistency  with both orders asked: share of pairs of answers that come out the same, of those that both decide
    length       share of pairs with s and l different in which the longer answer scores higher, less ½
    model        share of comparisons with other models' answers that it wins, of those that are decided, less ½
    r(s, l)      Pearson correlation of s and l less their means over the prompt, over all prompts

A judge is flagged for a lean when the mean of these over prompts is at least LEANS and z = Σ d / √Σ v gives p < 0.001
on at least 20 prompts, for deviations d and the largest variance v that they have without a lean: 1/n − 1/n² for a
place, ¼ for a length and a model. Answers are shuffled before they are shown, so a lean to a place is the judge's. One
to a length or a model may be deserved: it is large enough to be looked at. A flag never changes a pair.
"""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from cameleer.core.markdown import table
from cameleer.core.pairs import PreferencePair
from cameleer.model.pool import CUT_OFF, Answer
from cameleer.prefs.pairs import NoPair, is_usable
from cameleer.prefs.prompts import Prompt
from cameleer.prefs.ratings import Judged
from cameleer.prefs.responses import Slot

LEANS = {"place": 0.1, "length": 0.3, "model": 0.4}
"""From which mean on: an answer shown first wins 10 points more than chance, the longer 80%, a model's 90%."""
MIN_CONSISTENCY = 0.5
MAX_P = 0.001
MIN_PROMPTS = 20


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt with all that came of it. `judged` holds the judges that rated it; the first of them decided."""

    prompt: Prompt
    slots: Sequence[Slot]
    answers: Sequence[Answer]
    judged: dict[str, Judged]
    pair: PreferencePair | NoPair

    @property
    def usable(self) -> list[int]:
        return [place for place, answer in enumerate(self.answers) if is_usable(answer)]

    def length(self, place: int) -> int:
        return len(self.answers[place].text or "")


@dataclass(frozen=True, slots=True)
class Lean:
    """A mean deviation over prompts from what a judge without a lean would give, and its p-value."""

    mean: float
    p_value: float
    num_prompts: int

    def is_flagged(self, least: float) -> bool:
        return self.num_prompts >= MIN_PROMPTS and abs(self.mean) >= least and self.p_value < MAX_P


def lean(deviations: Sequence[float], variances: Sequence[float] | None = None) -> Lean:
    """The lean of deviations, one for each prompt; `variances` are theirs without a lean, ¼ where not given.

    Their own spread would not do: that of a rare event is small when it came less often than it should.
    """
    count = len(deviations)
    if not count:
        return Lean(math.nan, 1.0, 0)
    variance = count / 4 if variances is None else math.fsum(variances)
    return Lean(statistics.fmean(deviations), math.erfc(abs(math.fsum(deviations)) / math.sqrt(2 * variance)), count)


# --- what a judge did ---


@dataclass(frozen=True)
class Wins:
    """A model's answers against those of other models, and their mean score."""

    won: int
    tied: int
    lost: int
    mean_score: float
    num_scores: int
    lean: Lean

    @property
    def rate(self) -> float:
        total = self.won + self.tied + self.lost
        return (self.won + self.tied / 2) / total if total else math.nan


@dataclass(frozen=True)
class JudgeFacts:
    """What the ratings of one judge look like."""

    name: str
    num_prompts: int
    num_rated: int
    num_missing: int
    first: Lean
    last: Lean
    consistency: float
    num_swapped: int
    length: Lean
    correlation: float
    wins: dict[str, Wins]

    def flags(self) -> Iterator[str]:
        """What of it should be looked at, in words."""
        for where, found in (("first", self.first), ("last", self.last)):
            if found.is_flagged(LEANS["place"]):
                much = "more" if found.mean > 0 else "less"
                yield (
                    f"judge '{self.name}' leans by place: the answer shown {where} is best {abs(found.mean):.0%} "
                    f"{much} often than by chance (p = {found.p_value:.1g}, {found.num_prompts} prompts)"
                )
        if self.num_swapped >= MIN_PROMPTS and self.consistency < MIN_CONSISTENCY:
            yield (
                f"judge '{self.name}' follows the order shown: only {self.consistency:.0%} of {self.num_swapped} "
                "comparisons come out the same when it is reversed"
            )
        if self.length.is_flagged(LEANS["length"]):
            which = "longer" if self.length.mean > 0 else "shorter"
            yield (
                f"judge '{self.name}' leans by length: the {which} of two answers wins "
                f"{0.5 + abs(self.length.mean):.0%} (p = {self.length.p_value:.1g}, {self.length.num_prompts} prompts)"
            )
        for model, wins in self.wins.items():
            if wins.lean.mean > 0 and wins.lean.is_flagged(LEANS["model"]):
                yield (
                    f"judge '{self.name}' leans to a model: '{model}' wins {0.5 + wins.lean.mean:.0%} against the "
                    f"others (p = {wins.lean.p_value:.1g}, {wins.lean.num_prompts} prompts); far better, or favoured"
                )


def judge_facts(name: str, rows: Sequence[Row]) -> JudgeFacts:
    """What one judge's ratings look like."""
    found = [(row, row.judged[name]) for row in rows if name in row.judged]
    scores = [(row, _scores(row, judged)) for row, judged in found]
    same, swapped = _consistency([judged for _, judged in found])
    return JudgeFacts(
        name=name,
        num_prompts=len(found),
        num_rated=sum(len(each) for _, each in scores),
        num_missing=sum(len(row.usable) - len(each) for row, each in scores),
        first=_place_lean([judged for _, judged in found], lambda best, count: best == 0),
        last=_place_lean([judged for _, judged in found], lambda best, count: best == count - 1),
        consistency=same / swapped if swapped else math.nan,
        num_swapped=swapped,
        length=lean([value for row, each in scores if (value := _longer_wins(row, each)) is not None]),
        correlation=_correlation(scores),
        wins=_wins(scores),
    )


def _scores(row: Row, judged: Judged) -> dict[int, float]:
    return {place: score for place in row.usable if (score := judged.scores[place]) is not None}


def _place_lean(every: Iterable[Judged], stands: Callable[[int, int], bool]) -> Lean:
    """How much more often than by chance a prompt's best answer stands there."""
    deviations: list[float] = []
    variances: list[float] = []
    for judged in every:
        decided = [shown for shown in judged.shown if shown.scores.count(max(shown.scores)) == 1]
        if decided:
            chances = [1 / len(shown.order) for shown in decided]
            places = [(shown.scores.index(max(shown.scores)), len(shown.order)) for shown in decided]
            found = [stands(*place) - chance for place, chance in zip(places, chances, strict=True)]
            deviations.append(statistics.fmean(found))
            # That of a mean is at most the mean of its parts'.
            variances.append(statistics.fmean(chance - chance**2 for chance in chances))
    return lean(deviations, variances)


def _consistency(every: Iterable[Judged]) -> tuple[int, int]:
    """Pairs of answers ordered the same way in both orders, and pairs that both orders decide."""
    same = decided = 0
    for judged in every:
        by_order = {shown.order: dict(zip(shown.order, shown.scores, strict=True)) for shown in judged.shown}
        for order, scores in by_order.items():
            reverse = by_order.get(order[::-1])
            if reverse is None or order > order[::-1]:
                continue
            for one, other in combinations(order, 2):
                product = (scores[one] - scores[other]) * (reverse[one] - reverse[other])
                decided += product != 0
                same += product > 0
    return same, decided


def _longer_wins(row: Row, scores: dict[int, float]) -> float | None:
    """The share of a prompt's pairs in which the longer answer scores higher, less ½; None without such pairs."""
    wins = [
        (scores[one] > scores[other]) == (row.length(one) > row.length(other))
        for one, other in combinations(scores, 2)
        if scores[one] != scores[other] and row.length(one) != row.length(other)
    ]
    return statistics.fmean(wins) - 0.5 if wins else None


def _correlation(every: Sequence[tuple[Row, dict[int, float]]]) -> float:
    xx = yy = xy = 0.0
    for row, scores in every:
        if not scores:
            continue
        mean_score = statistics.fmean(scores.values())
        mean_length = statistics.fmean(row.length(place) for place in scores)
        for place, score in scores.items():
            x, y = score - mean_score, row.length(place) - mean_length
            xx, yy, xy = xx + x * x, yy + y * y, xy + x * y
    return xy / math.sqrt(xx * yy) if xx * yy > 0 else math.nan


def _wins(every: Sequence[tuple[Row, dict[int, float]]]) -> dict[str, Wins]:
    results: defaultdict[str, Counter[str]] = defaultdict(Counter)
    deviations: defaultdict[str, list[float]] = defaultdict(list)
    given: defaultdict[str, list[float]] = defaultdict(list)
    for row, scores in every:
        decided: defaultdict[str, list[bool]] = defaultdict(list)
        for place, score in scores.items():
            model = row.slots[place].model
            given[model].append(score)
            for other, its_score in scores.items():
                if row.slots[other].model == model:
                    continue
                results[model]["tied" if score == its_score else "won" if score > its_score else "lost"] += 1
                if score != its_score:
                    decided[model].append(score > its_score)
        for model, won in decided.items():
            deviations[model].append(statistics.fmean(won) - 0.5)
    return {
        model: Wins(
            results[model]["won"],
            results[model]["tied"],
            results[model]["lost"],
            statistics.fmean(given[model]),
            len(given[model]),
            lean(deviations[model]),
        )
        for model in sorted(given)
    }


def agreement(one: str, other: str, rows: Iterable[Row]) -> tuple[int, int]:
    """Pairs of answers that two judges order the same way, and pairs that both decide."""
    same = decided = 0
    for row in rows:
        if one not in row.judged or other not in row.judged:
            continue
        first, second = _scores(row, row.judged[one]), _scores(row, row.judged[other])
        for a, b in combinations([place for place in first if place in second], 2):
            product = (first[a] - first[b]) * (second[a] - second[b])
            decided += product != 0
            same += product > 0
    return same, decided


# --- the report ---


@dataclass(frozen=True)
class Facts:
    """All that the report says."""

    rows: Sequence[Row]
    judges: list[JudgeFacts]
    recorded: dict[str, int]
    dropped: dict[str, Counter[str]]
    spending: dict[str, dict[str, Any]]

    @property
    def pairs(self) -> list[PreferencePair]:
        return [row.pair for row in self.rows if isinstance(row.pair, PreferencePair)]

    @property
    def without_pair(self) -> Counter[NoPair]:
        return Counter(row.pair for row in self.rows if isinstance(row.pair, NoPair))

    @property
    def flags(self) -> list[str]:
        return [flag for judge in self.judges for flag in judge.flags()]

    def missing_answers(self) -> Counter[tuple[str, str]]:
        """How often each model gave no usable answer, by kind."""
        return Counter(
            (slot.model, kind)
            for row in self.rows
            for slot, answer in zip(row.slots, row.answers, strict=True)
            if (kind := _fault(answer)) is not None
        )


def _fault(answer: Answer) -> str | None:
    if answer.text is None:
        return str(answer.failure).partition(":")[0]
    return None if is_usable(answer) else "empty"


def counts_of(facts: Facts) -> dict[str, Any]:
    """The numbers for the manifest."""
    missing = facts.missing_answers()
    return {
        "prompts": len(facts.rows),
        "pairs": len(facts.pairs) + sum(facts.recorded.values()),
        "recorded_pairs": facts.recorded,
        "dropped_rows": {name: dict(sorted(reasons.items())) for name, reasons in facts.dropped.items()},
        "without_pair": {reason.value: facts.without_pair[reason] for reason in NoPair if facts.without_pair[reason]},
        "answers": sum(len(row.answers) for row in facts.rows),
        "missing_answers": {f"{model}: {kind}": times for (model, kind), times in sorted(missing.items())},
        "ratings": {judge.name: judge.num_rated for judge in facts.judges},
        "missing_ratings": {judge.name: judge.num_missing for judge in facts.judges},
        "spending": facts.spending,
    }


def summary_of(facts: Facts) -> dict[str, Any]:
    """The few numbers that a person reads first."""
    return {
        "pairs": len(facts.pairs) + sum(facts.recorded.values()),
        "ties": facts.without_pair[NoPair.TIE],
        "missing_ratings": sum(judge.num_missing for judge in facts.judges),
        "flags": len(facts.flags),
    }


def markdown(facts: Facts) -> str:
    """The report's text."""
    pairs = facts.pairs
    parts = [
        "# Preference pairs",
        _flag_text(facts.flags),
        f"{len(facts.rows)} prompts made {len(pairs)} pairs"
        + "".join(f"; {count}: {reason.value}" for reason, count in facts.without_pair.most_common())
        + ".",
    ]
    if facts.recorded:
        rows = [[name, count, _counted(facts.dropped[name])] for name, count in facts.recorded.items()]
        parts += ["## Recorded pairs", table(["source", "pairs", "dropped"], rows)]
    if pairs:
        lengths = [statistics.fmean(map(len, texts)) for texts in _texts(pairs)]
        parts.append(f"Mean length in characters: chosen {lengths[0]:.0f}, rejected {lengths[1]:.0f}.")
    if facts.rows:
        parts += ["## Models", _models_table(facts)]
    for judge in facts.judges:
        parts += _judge_section(judge)
    parts += _agreement_section(facts)
    if facts.spending:
        header = ["server", "prompt tokens", "completion tokens", "cost"]
        rows = [
            [who, *(each[key] for key in ("prompt_tokens", "completion_tokens", "cost"))]
            for who, each in facts.spending.items()
        ]
        parts += ["## Spending", table(header, rows)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _flag_text(flags: Sequence[str]) -> str:
    if not flags:
        return ""
    return (
        "## Flags\n\n" + "\n".join(f"* {flag}" for flag in flags) + "\n\nA flag is to be looked at; it changes no pair."
    )


def _texts(pairs: Sequence[PreferencePair]) -> tuple[list[str], list[str]]:
    return [pair.chosen for pair in pairs], [pair.rejected for pair in pairs]


def _models_table(facts: Facts) -> str:
    answers: defaultdict[str, list[Answer]] = defaultdict(list)
    for row in facts.rows:
        for slot, answer in zip(row.slots, row.answers, strict=True):
            answers[slot.model].append(answer)
    chosen = Counter(pair.chosen_model for pair in facts.pairs)
    rejected = Counter(pair.rejected_model for pair in facts.pairs)
    missing = facts.missing_answers()
    rows = [
        [
            model,
            len(found),
            _counted(Counter({kind: times for (name, kind), times in missing.items() if name == model})),
            sum(answer.finish_reason == CUT_OFF for answer in found),
            _mean_length(found),
            chosen[model],
            rejected[model],
        ]
        for model, found in sorted(answers.items())
    ]
    return table(["model", "answers", "missing", "cut off", "mean characters", "chosen", "rejected"], rows)


def _mean_length(answers: Sequence[Answer]) -> str:
    lengths = [len(answer.text) for answer in answers if answer.text is not None]
    return f"{statistics.fmean(lengths):.0f}" if lengths else "–"


def _judge_section(judge: JudgeFacts) -> list[str]:
    lines = [
        f"* {judge.num_rated} ratings of answers to {judge.num_prompts} prompts, {judge.num_missing} missing",
        f"* best answer shown first: {_points(judge.first)}; last: {_points(judge.last)} (points above chance)"
        if judge.first.num_prompts
        else "",
        f"* the same order when reversed: {judge.consistency:.1%} of {judge.num_swapped} comparisons"
        if judge.num_swapped
        else "",
        f"* the longer of two answers wins {_points(judge.length)} points above one half"
        if judge.length.num_prompts
        else "",
        f"* correlation of score and length: {judge.correlation:+.3f}" if math.isfinite(judge.correlation) else "",
    ]
    rows = [
        [model, wins.won, wins.tied, wins.lost, _share(wins.rate), f"{wins.mean_score:.3f}", wins.num_scores]
        for model, wins in judge.wins.items()
    ]
    header = ["model", "won", "tied", "lost", "win rate", "mean score", "ratings"]
    return [f"## Judge {judge.name}", "\n".join(filter(None, lines)), table(header, rows) if rows else ""]


def _points(found: Lean) -> str:
    if not math.isfinite(found.mean):
        return "–"
    return f"{100 * found.mean:+.1f} (p = {found.p_value:.2g}, {found.num_prompts} prompts)"


def _share(value: float) -> str:
    return f"{value:.1%}" if math.isfinite(value) else "–"


def _agreement_section(facts: Facts) -> list[str]:
    rows: list[list[Any]] = []
    for one, other in combinations([judge.name for judge in facts.judges], 2):
        same, decided = agreement(one, other, facts.rows)
        rows.append([one, other, decided, _share(same / decided if decided else math.nan)])
    if not rows:
        return []
    return ["## Agreement", table(["judge", "judge", "comparisons that both decide", "same way"], rows)]


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{times} {what}" for what, times in counter.most_common()) or "0"
