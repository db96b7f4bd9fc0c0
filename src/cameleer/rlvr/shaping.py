"""The reward of a rollout: a pure function of its verdict, its tokens and its text.

    reward = correct · score  +  Σ weight · term                         answers with an end token
    reward = missing_end, if set, else the same                          answers cut off at max_new_tokens (Tülu 3: -10)
    none                                                                 outcomes `error` and `timeout`

Terms, each in [-1, 0] or [0, 1]:

    overlong     0 up to max_new_tokens - buffer, then down in a straight line to -1      DAPO, arXiv:2503.14476, Eq. 13
    repetition   -(share of the answer's 4-grams of tokens that occurred before)
    format       1 if the pattern matches somewhere in the answer, else 0
    instructions share of the prompt's instructions that the answer follows; the score, where its verifier lists none
"""

import re
from collections.abc import Sequence

from cameleer.rlvr.config import RewardConfig
from cameleer.verify import Verdict

NGRAM = 4


def reward_of(
    config: RewardConfig, verdict: Verdict, ids: Sequence[int], response: str, ended: bool, max_new_tokens: int
) -> tuple[float | None, dict[str, float]]:
    """The reward, None where the verdict says nothing of the answer, and what each shaping term gave."""
    if verdict.score is None:
        return None, {}
    if not ended and config.missing_end is not None:
        return config.missing_end, {}
    terms = shaping_terms(config, verdict, ids, response, max_new_tokens)
    return config.correct * verdict.score + sum(terms.values()), terms


def shaping_terms(
    config: RewardConfig, verdict: Verdict, ids: Sequence[int], response: str, max_new_tokens: int
) -> dict[str, float]:
    """The weighted value of each term that the config asks for, of an answer that could be judged."""
    terms: dict[str, float] = {}
    if config.overlong is not None:
        terms["overlong"] = config.overlong.weight * overlong(len(ids), max_new_tokens, config.overlong.buffer_tokens)
    if config.repetition is not None:
        terms["repetition"] = -config.repetition.weight * repetition(ids)
    if config.format is not None:
        terms["format"] = config.format.weight * (re.search(config.format.pattern, response) is not None)
    if config.instructions is not None:
        terms["instructions"] = config.instructions.weight * instructions(verdict)
    return terms


def overlong(num_tokens: int, max_new_tokens: int, buffer_tokens: int) -> float:
    """DAPO's soft punishment of length, in [-1, 0]."""
    return -max(0.0, num_tokens - (max_new_tokens - buffer_tokens)) / buffer_tokens


def repetition(ids: Sequence[int]) -> float:
    """Share of the 4-grams that occurred before in the answer, in [0, 1)."""
    grams = [tuple(ids[place : place + NGRAM]) for place in range(len(ids) - NGRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def instructions(verdict: Verdict) -> float:
    """Share of the instructions that a judged answer follows, in [0, 1]; the score where the verdict lists none."""
    assert verdict.score is not None, verdict
    constraints = verdict.detail.get("constraints", ())
    followed = verdict.detail.get("loose") or [constraint["holds"] for constraint in constraints]
    return sum(followed) / len(followed) if followed else verdict.score
