"""Whether an answer is right, as far as a program can tell; the paper keeps every answer that it is given.

    precise_if, augmented   every instruction holds in the answer as it is (IFEval's strict verdict)
    maths                   the result is that of more than half of the k answers asked for; one that is missing, cut
                            off or without a readable result votes for nothing (self-consistency, Wang et al. 2022)
    code                    the program passes the tests, in the sandbox. The tests' author has not seen it. They count
                            only if there are at least three and a function that returns nothing fails them

Verified is not proven: a majority can agree on an error, and tests may miss one. An answer that is cut off is never
kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cameleer.model.pool import CUT_OFF, Answer
from cameleer.synth.config import PromptKind
from cameleer.synth.items import Item
from cameleer.synth.templates import read_tests
from cameleer.tasks.ifeval_draw import target_of
from cameleer.verify.maths.extract import candidates
from cameleer.verify.numbers import verify_number
from cameleer.verify.pool import VerifierPool
from cameleer.verify.verdict import Outcome, Verdict

IDLE = "```python\ndef {name}(*args, **kwargs):\n    return None\n```"


class Check(StrEnum):
    """What became of the check of the answer that is kept."""

    VERIFIED = "verified"
    FAILED = "failed"
    UNDECIDED = "undecided"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True)
class Checked:
    """The check of an item's answers. `text` is the answer kept, None where there is none that ended by itself.

    `share` is the share of the answers asked for that are right, None where nothing was decided. With a `verifier` the
    item is a problem that others can be asked, `target` being what it verifies.
    """

    check: Check
    text: str | None = None
    share: float | None = None
    verifier: str = ""
    target: Any = None
    detail: dict[str, Any] = field(default_factory=dict[str, Any])


def check_answers(item: Item, answers: Sequence[Answer], tests: Answer | None, pool: VerifierPool) -> Checked:
    """Check the answers of an item, in the order in which they were asked for."""
    usable = [each.text or "" for each in answers if each.finish_reason != CUT_OFF and (each.text or "").strip()]
    if not usable:
        # What instructions ask for is known without an answer.
        verifier, target = ("ifeval", target_of(item.asked)) if item.asked else ("", None)
        reason = "no answer, or none that ended by itself"
        return Checked(Check.UNDECIDED, None, None, verifier, target, {"reason": reason})
    if item.table.kind.is_math:
        return _vote(usable, len(answers), _verifier(item.table.kind), pool)
    if item.table.kind is PromptKind.CODE:
        return _execute(item, usable, len(answers), tests, pool)
    return _follow(item, usable, len(answers), pool)


def _follow(item: Item, texts: list[str], count: int, pool: VerifierPool) -> Checked:
    target = target_of(item.asked)
    verdicts = _verdicts([(text, "ifeval", target) for text in texts], pool)
    right = [each.detail.get("prompt_strict", False) for each in verdicts]
    place = _first(right)
    held = dict(zip(target["instruction_id_list"], verdicts[place].detail.get("strict", []), strict=False))
    check = Check.VERIFIED if right[place] else Check.FAILED
    return Checked(check, texts[place], sum(right) / count, "ifeval", target, {"held": held})


def _verifier(kind: PromptKind) -> str:
    return "number" if kind is PromptKind.MATH_GRADE_SCHOOL else "math"


def _result(text: str, verifier: str) -> str | None:
    """The result that an answer states."""
    if verifier == "number":
        return verify_number(text, 0).detail.get("answer")
    # A short reply as a whole, which the verifier also reads, may be "I do not know.": many agree on that.
    found = [each.text for each in candidates(text) if each.rule != "response"]
    return found[0] if found else None


def _vote(texts: list[str], count: int, verifier: str, pool: VerifierPool) -> Checked:
    results = list(dict.fromkeys(found for text in texts if (found := _result(text, verifier)) is not None))
    asked = [(text, verifier, result) for result in results for text in texts]
    right = [each.outcome is Outcome.CORRECT for each in _verdicts(asked, pool)]
    agreeing = [right[start : start + len(texts)] for start in range(0, len(right), len(texts))]
    votes = {result: sum(each) for result, each in zip(results, agreeing, strict=True)}
    best = max(votes, key=votes.__getitem__, default=None)
    if best is None or 2 * votes[best] <= count:
        return Checked(Check.UNDECIDED, texts[0], None, detail={"votes": votes, "reason": "no majority"})
    place = _first(agreeing[results.index(best)])
    return Checked(Check.VERIFIED, texts[place], votes[best] / count, verifier, best, {"votes": votes})


def _execute(item: Item, texts: list[str], count: int, reply: Answer | None, pool: VerifierPool) -> Checked:
    written = reply.text if reply is not None and reply.text is not None else ""
    tests = read_tests(written, item.function)
    if tests is None:
        return Checked(Check.UNDECIDED, texts[0], detail={"reason": "no readable tests"})
    target = {"kind": "asserts", "tests": tests.statements, "setup": tests.setup}
    asked = [(text, "code", target) for text in (IDLE.format(name=item.function), *texts)]
    idle, *verdicts = _verdicts(asked, pool)
    if idle.outcome is not Outcome.WRONG:
        passes = "a function that returns nothing passes the tests"
        reason = passes if idle.outcome is Outcome.CORRECT else f"tests end in {idle.outcome}"
        return Checked(Check.UNDECIDED, texts[0], detail={"reason": reason})
    right = [each.outcome is Outcome.CORRECT for each in verdicts]
    place = _first(right)
    outcome, detail = verdicts[place].outcome, {"tests": tests.statements, "error": verdicts[place].detail.get("error")}
    if outcome in (Outcome.TIMEOUT, Outcome.ERROR):
        return Checked(Check.UNDECIDED, texts[place], detail={**detail, "reason": f"tests end in {outcome}"})
    if not right[place]:
        return Checked(Check.FAILED, texts[place], 0.0, detail=detail)
    return Checked(Check.VERIFIED, texts[place], sum(right) / count, "code", target, detail)


def _verdicts(asked: Sequence[tuple[str, str, Any]], pool: VerifierPool) -> list[Verdict]:
    """The verdicts in the order of what was asked; a target that is refused is an error."""
    found = {index: verdict for index, verdict, _ in pool.verify_all(asked)}
    return [found[index] for index in range(len(asked))]


def _first(right: Sequence[bool]) -> int:
    """The place of the first right answer, else of the first."""
    return right.index(True) if True in right else 0
