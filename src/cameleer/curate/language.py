"""The language of a text by its letters, with langdetect's profiles without its random draws: fast, always the same.

    score(language) = Σ log(p(g | language) + ε)   over the runs g of one to three letters of the text's beginning
    the language is the one with the largest score, if that leads by 10 at least
    p(g | language) = frequency of g in langdetect's profile of the language / that of all runs of g's length

A run lies within a word; before the first letter and after the last one stands a space. Code, addresses and letters
that stand alone, which are formulas more often than words, are left out. That is the classifier of
langdetect (Shuyo 2010: naive Bayes, ε = 0.5 / 10,000), which draws runs at random where here all count.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_CHARACTERS = 300
"""Of a text that are looked at."""
MIN_LEAD = 10.0
"""Of the best score over the next; with less nothing is said."""
EPSILON = 0.5 / 10_000
MAX_RUN = 3
BITS = 21
"""Of a character."""

_NO_WORDS = re.compile(r"https?://\S*|\S+@\S+|```.*?(?:```|\Z)|\b[A-Za-z]\b|[\W\d_]+", re.DOTALL)


class _Normal(dict[int, str]):
    """langdetect's stand-in for each character, such as one kanji for a group of them; for `str.translate`."""

    def __missing__(self, code: int) -> str:
        from langdetect.utils.ngram import NGram

        self[code] = NGram.normalize(chr(code))
        return self[code]


class _Profiles(NamedTuple):
    """`logs` has a row for each run, by key in order, and a column for each language."""

    languages: list[str]
    keys: NDArray[np.uint64]
    logs: NDArray[np.float32]
    normal: _Normal


def _key(run: str) -> int:
    """The run's characters, 21 bits each: no two runs have one key, since no character is 0."""
    key = 0
    for character in run:
        key = key << BITS | ord(character)
    return key


@cache
def _profiles() -> _Profiles:
    import langdetect

    paths = sorted((Path(langdetect.__file__).parent / "profiles").iterdir())
    profiles = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    runs = {_key(run): run for profile in profiles for run in profile["freq"] if len(run) <= MAX_RUN}
    rows = {runs[key]: row for row, key in enumerate(sorted(runs))}
    chances = np.zeros((len(rows), len(profiles)), np.float32)
    for column, profile in enumerate(profiles):
        for run, frequency in profile["freq"].items():
            if run in rows:
                chances[rows[run], column] = frequency / profile["n_words"][len(run) - 1]
    languages = [profile["name"] for profile in profiles]
    return _Profiles(languages, np.array(sorted(runs), np.uint64), np.log(chances + EPSILON), _Normal())


def known_languages() -> list[str]:
    """The codes that `language_of` can return, such as `en` or `zh-cn`."""
    return sorted(_profiles().languages)


def language_of(text: str) -> str | None:
    """The language of a text's beginning; None where two or more are about as likely."""
    languages, keys, logs, normal = _profiles()
    letters = _NO_WORDS.sub(" ", text[: 4 * MAX_CHARACTERS])[:MAX_CHARACTERS].strip()
    # Capitals alone are no profile's: they would tell languages by what those abbreviate.
    words = f" {letters.lower() if letters.isupper() else letters} ".translate(normal)
    ones = np.frombuffer(words.encode("utf-32-le", "replace"), np.uint32).astype(np.uint64)
    twos = ones[:-1] << np.uint64(BITS) | ones[1:]
    threes = twos[:-1] << np.uint64(BITS) | ones[2:]
    runs = np.concatenate([ones, twos, threes])
    rows = np.minimum(np.searchsorted(keys, runs), len(keys) - 1)
    scores = logs[rows[keys[rows] == runs]].sum(axis=0)
    second, first = np.argpartition(scores, -2)[-2:]
    return languages[first] if scores[first] - scores[second] >= MIN_LEAD else None
