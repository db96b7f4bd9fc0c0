"""From a mixture to segment trees: one root segment per conversation, weight 1 on what the assistant says."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cameleer.core.errors import UserError
from cameleer.core.log import ticker
from cameleer.core.mixture import MIXTURE
from cameleer.core.render import Renderer
from cameleer.core.training import Overlong
from cameleer.core.types import Example
from cameleer.train.layout import Segment, Tree

RenderedRow = tuple[NDArray[np.int32], NDArray[np.float32]]
"""Token ids and loss weights of a conversation, both (L,)."""


@dataclass(frozen=True)
class Rows:
    """Tokenised conversations: `trees[i]` belongs to `names[i]` (source and id, for messages)."""

    trees: list[Tree]
    names: list[str]
    num_truncated: int
    num_dropped: int

    @property
    def num_tokens(self) -> int:
        return sum(len(tree[0].ids) for tree in self.trees)

    @property
    def num_trained_tokens(self) -> int:
        return int(sum(tree[0].weights.sum() for tree in self.trees))


def load_rows(mixture: Path, renderer: Renderer, max_tokens: int, overlong: Overlong, shown: bool = True) -> Rows:
    """Render every conversation of a mixture. Raises UserError naming the row that cannot be trained on."""
    examples = list(MIXTURE.read(mixture))
    rendered: list[tuple[str, RenderedRow]] = []
    with ticker("tokenise", len(examples), shown=shown) as progress:
        for example in examples:
            name = f"{example.source}/{example.id}"
            rendered.append((name, _render(example, renderer, name)))
            progress.advance()
    return limit_rows(rendered, max_tokens, overlong)


def limit_rows(rendered: Iterable[tuple[str, RenderedRow]], max_tokens: int, overlong: Overlong) -> Rows:
    """Named rows under the policy for those above `max_tokens`."""
    trees: list[Tree] = []
    names: list[str] = []
    truncated = dropped = 0
    for name, (ids, weights) in rendered:
        if len(ids) > max_tokens and overlong is Overlong.ERROR:
            raise UserError(
                f"row {name}: {len(ids)} tokens are more than max_tokens = {max_tokens}.",
                "Raise max_tokens, or set overlong = 'truncate' or 'drop'.",
            )
        # A row cut down to its prompt would train on nothing.
        if len(ids) > max_tokens and (overlong is Overlong.DROP or not weights[:max_tokens].any()):
            dropped += 1
            continue
        truncated += len(ids) > max_tokens
        trees.append((Segment(ids[:max_tokens], weights[:max_tokens]),))
        names.append(name)
    return Rows(trees, names, truncated, dropped)


def _render(example: Example, renderer: Renderer, name: str) -> RenderedRow:
    try:
        rendered = renderer.render(example.messages)
    except UserError as error:
        raise UserError(f"row {name}: {error.what}", error.hint) from None
    return np.asarray(rendered.ids, np.int32), np.asarray(rendered.trained, np.float32)
