"""HREF (Lyu et al. 2024, arXiv 2412.15524): win rate against a fixed baseline, with a method for each kind of task.

    LH   a judge that also sees a human's reference answer
    L    a judge that sees the two responses alone
    E    BERTScore F1 with the reference: strictly larger wins, equal ties

    win rate = (wins + ½ ties) / judged items, over all items of all categories (micro-average; `results`)

The methods are Tülu 3's (report §7.3.2, HREF's code): the ones that agreed best with people in each category. Intended
departures:

* The judge's prompts are in our own words, so figures are comparable with each other, not with HREF's board.
* An answer of the judge that cannot be read is missing and counted; in HREF's code it is a loss, since it is neither
  win nor tie and stays in the denominator.
* The test set is private; items come from whoever has them, in the form of the public development set.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from cameleer.core.errors import UserError, did_you_mean
from cameleer.core.types import Message
from cameleer.evals.similarity import Encoder, bert_score
from cameleer.model.judge import Judge, JudgeReply, JudgeRequest
from cameleer.model.judge_pairs import Pair, Positions, compare


class Method(StrEnum):
    """How the responses of a category are compared."""

    JUDGE_WITH_REFERENCE = "LH"
    JUDGE = "L"
    SIMILARITY = "E"


METHODS: dict[str, Method] = {
    "Brainstorm": Method.JUDGE,
    "Open QA": Method.SIMILARITY,
    "Closed QA": Method.JUDGE_WITH_REFERENCE,
    "Extract": Method.JUDGE_WITH_REFERENCE,
    "Generation": Method.JUDGE_WITH_REFERENCE,
    "Rewrite": Method.JUDGE_WITH_REFERENCE,
    "Summarize": Method.JUDGE,
    "Classify": Method.JUDGE_WITH_REFERENCE,
    "Reasoning Over Numerical Data": Method.JUDGE_WITH_REFERENCE,
    "Multi-Document Synthesis": Method.JUDGE_WITH_REFERENCE,
    "Fact Checking or Attributed QA": Method.SIMILARITY,
}
"""HREF's categories by the names that its data uses."""


@dataclass(frozen=True, slots=True)
class HrefItem:
    """One prompt with the baseline's response and a person's. Raises UserError for an unknown category."""

    id: str
    category: str
    instruction: str
    reference: str
    baseline: str

    def __post_init__(self) -> None:
        if self.category not in METHODS:
            near = did_you_mean(self.category, METHODS)
            raise UserError(f"item {self.id}: HREF has no category '{self.category}'.{near}")
        if METHODS[self.category] is not Method.JUDGE and not self.reference.strip():
            raise UserError(f"item {self.id}: a {self.category} item needs a reference.")


class Result(StrEnum):
    """What the response does against the baseline's."""

    WIN = "win"
    TIE = "tie"
    LOSS = "loss"
    MISSING = "missing"


RULES = """\
You compare two responses to an instruction and say which one is better.

Judge by what the instruction asks for: is the response right, is it complete, does it keep to the format, length and \
style that were wished. {basis}Do not let the order of the responses, their length or their tone decide.

Reply with one word: A if response A is better, B if response B is better, TIE if neither is."""
BASIS = """\
A person has written a reference response. Take it as an example of what is wanted, not as the only right answer: a \
response may differ from it and be better than it. """
REPLIES = {"A": 1.0, "B": 0.0, "TIE": 0.5}
MAX_TOKENS = 4


def judge_href(
    items: Sequence[HrefItem],
    responses: Sequence[str],
    judge: Judge,
    encoder: Encoder,
    seed: int,
    positions: Positions = Positions.SEEDED,
) -> list[Result]:
    """The result of each response, in the order of the items.

    `seed` draws who is shown first to the judge. In both positions, a preference that flips with the order is a tie.
    """
    assert len(items) == len(responses), (len(items), len(responses))
    by_similarity = [index for index, item in enumerate(items) if METHODS[item.category] is Method.SIMILARITY]
    by_judge = [index for index, item in enumerate(items) if METHODS[item.category] is not Method.SIMILARITY]
    pairs = [_pair(items[index], responses[index]) for index in by_judge]
    preferences = compare(judge, pairs, show_pair, read_first, positions, seed)
    results = {index: _result(each.candidate) for index, each in zip(by_judge, preferences, strict=True)}
    for index in by_similarity:
        results[index] = nearer(encoder, items[index], responses[index])
    return [results[index] for index in range(len(items))]


def _pair(item: HrefItem, response: str) -> Pair:
    reference = item.reference if METHODS[item.category] is Method.JUDGE_WITH_REFERENCE else None
    return Pair(item.id, item.instruction, item.baseline, response, reference)


def show_pair(pair: Pair, first: str, second: str) -> JudgeRequest:
    """What the judge is asked about a pair; it sees the reference where the pair has one."""
    basis = "" if pair.reference is None else BASIS
    parts = [("instruction", pair.instruction)]
    if pair.reference is not None:
        parts.append(("reference response", pair.reference))
    parts += [("response A", first), ("response B", second)]
    shown = "\n\n".join(f"<{name}>\n{text}\n</{name}>" for name, text in parts)
    messages = (Message("system", RULES.format(basis=basis)), Message("user", shown))
    return JudgeRequest(messages, max_tokens=MAX_TOKENS)


def read_first(reply: JudgeReply) -> float | None:
    """1, ½ or 0 for the response shown first; None for anything but the one word that was asked for."""
    return REPLIES.get((reply.text or "").strip().strip("*.\"'`()[]").upper())


def nearer(encoder: Encoder, item: HrefItem, response: str) -> Result:
    """Whose response is more like the reference."""
    ours, theirs = bert_score(encoder, [response, item.baseline], [item.reference] * 2)
    return Result.TIE if ours.f1 == theirs.f1 else Result.WIN if ours.f1 > theirs.f1 else Result.LOSS


def _result(candidate: float | None) -> Result:
    if candidate is None:
        return Result.MISSING
    return Result.TIE if candidate == 0.5 else Result.WIN if candidate > 0.5 else Result.LOSS
