"""From preference pairs to segment trees: a prompt, computed once, and its two answers.

tree: prompt (weights 0) ─┬─ chosen     (weights 1, the end token included)
                          └─ rejected
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cameleer.core.artifact import read_manifest
from cameleer.core.errors import UserError
from cameleer.core.log import ticker
from cameleer.core.pairs import PAIRS, PreferencePair
from cameleer.core.render import Renderer
from cameleer.core.training import Overlong
from cameleer.train.layout import Segment, Tree

RenderedPair = tuple[list[int], list[int], list[int]]
"""Ids of prompt, chosen and rejected answer."""


@dataclass(frozen=True)
class PairRows:
    """Tokenised pairs: `trees[i]` is `pairs[i]`. What was not taken is counted by its reason."""

    trees: list[Tree]
    pairs: list[PreferencePair]
    num_truncated: int
    num_overlong: int
    num_identical: int
    num_empty: int

    @property
    def counts(self) -> dict[str, int]:
        """For the manifest."""
        return {
            "pairs": len(self.pairs),
            "truncated": self.num_truncated,
            "dropped_overlong": self.num_overlong,
            "dropped_identical": self.num_identical,
            "dropped_empty": self.num_empty,
        }


def load_pairs(folder: Path, renderer: Renderer, max_tokens: int, overlong: Overlong, shown: bool = True) -> PairRows:
    """Render every pair of a set.

    A pair whose answers are equal, as texts or as tokens, or one of whose answers is empty, tells nothing that could be
    trained on and is left out. Raises UserError naming the pair that cannot be rendered, or exceeds `max_tokens` under
    `overlong = error`, and for pairs that were sampled under another chat template than the renderer's.
    """
    _check_template(folder, renderer)
    every = list(PAIRS.read(folder))
    usable = [pair for pair in every if pair.chosen != pair.rejected]
    answered = [pair for pair in usable if pair.chosen.strip() and pair.rejected.strip()]
    with ticker("tokenise", len(answered), shown=shown) as progress:
        rendered: list[tuple[PreferencePair, RenderedPair]] = []
        for pair in answered:
            rendered.append((pair, _render(pair, renderer)))
            progress.advance()
    distinct = [(pair, ids) for pair, ids in rendered if ids[1] != ids[2]]
    identical = len(every) - len(usable) + len(rendered) - len(distinct)
    trees, kept, truncated, dropped = _limit(distinct, max_tokens, overlong)
    return PairRows(trees, kept, truncated, dropped, identical, len(usable) - len(answered))


def _check_template(folder: Path, renderer: Renderer) -> None:
    manifest = read_manifest(folder)
    made_under = None if manifest is None else manifest.template_fingerprint
    if made_under not in (None, renderer.fingerprint):
        raise UserError(
            f"{folder}: these pairs were made under another chat template (fingerprint {made_under[:12]}, here "
            f"{renderer.fingerprint[:12]}).",
            "Set chat_template to what the recipe that made them says, or make them again.",
        )


def _render(pair: PreferencePair, renderer: Renderer) -> RenderedPair:
    try:
        answers = [renderer.answer(pair.prompt, text) for text in (pair.chosen, pair.rejected)]
        return renderer.prompt(pair.prompt), answers[0], answers[1]
    except UserError as error:
        raise UserError(f"pair {pair.name}: {error.what}", error.hint) from None


def _limit(
    rendered: Iterable[tuple[PreferencePair, RenderedPair]], max_tokens: int, overlong: Overlong
) -> tuple[list[Tree], list[PreferencePair], int, int]:
    """Trees under the policy for pairs whose prompt with the longer answer exceeds `max_tokens`."""
    trees: list[Tree] = []
    kept: list[PreferencePair] = []
    truncated = dropped = 0
    for pair, (prompt, chosen, rejected) in rendered:
        length, room = len(prompt) + max(len(chosen), len(rejected)), max_tokens - len(prompt)
        if length > max_tokens and overlong is Overlong.ERROR:
            raise UserError(
                f"pair {pair.name}: {length} tokens are more than max_tokens = {max_tokens}.",
                "Raise max_tokens, or set overlong = 'truncate' or 'drop'.",
            )
        # A prompt that leaves no room for an answer, or answers that are equal once cut, train nothing.
        if length > max_tokens and (overlong is Overlong.DROP or room <= 0 or chosen[:room] == rejected[:room]):
            dropped += 1
            continue
        truncated += length > max_tokens
        trees.append(pair_tree(prompt, chosen[:room], rejected[:room]))
        kept.append(pair)
    return trees, kept, truncated, dropped


def pair_tree(prompt: list[int], chosen: list[int], rejected: list[int]) -> Tree:
    """The tree of a pair."""
    return (
        Segment(np.asarray(prompt, np.int32), np.zeros(len(prompt), np.float32)),
        *(Segment(np.asarray(ids, np.int32), np.ones(len(ids), np.float32), parent=0) for ids in (chosen, rejected)),
    )
