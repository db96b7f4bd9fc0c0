"""Which training prompts resemble test items, by sentence embeddings: `MatchMode.EMBEDDING`.

    share(field, r) = the largest cosine of e(field) and e(turn) over the user turns of the training item r
    share(item, r)  = mean of share(field, r) over the item's fields that are not blank
    the item overlaps with r  iff  share(item, r) > threshold

e is `model.embed`. It finds rephrased copies, of which n-grams find none, and texts of the same kind too, the more the
lower the threshold (docs/decontamination.md has figures); that is why n-grams are the default. Every pair of a row and
an item is computed: nothing is searched approximately.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cameleer.curate.overlap import GAP, Item, Items, Match, Prompt


class SimilarItems(Items):
    """Test items and the embeddings of their fields."""

    def __init__(self, items: Sequence[Item], threshold: float, model: Path) -> None:
        """`model` is the folder of an encoder."""
        # Imports torch, which the other measures do without.
        from cameleer.model.embed import Embedder

        super().__init__(items)
        self.threshold, self.embedder = threshold, Embedder(model)
        fields: dict[str, int] = {}
        places = [[fields.setdefault(text, len(fields)) for text in item.fields if text.strip()] for item in self.items]
        self.num_too_short = Counter(item.task for item, fields in zip(self.items, places, strict=True) if not fields)
        self._with_fields = [number for number, fields in enumerate(places) if fields]
        self._places = [places[number] for number in self._with_fields]
        counts = np.array([len(each) for each in self._places], np.int64)
        self._counts, self._starts = counts, np.cumsum(counts) - counts
        self._all_places = np.array([place for each in self._places for place in each], np.int64)
        self._fields_FD = self.embedder.embed(list(fields))

    def matches(self, prompts: Sequence[Prompt]) -> list[Match]:
        found: list[Match] = []
        distinct = list(dict.fromkeys(turn for prompt in prompts for turn in prompt if turn.strip()))
        place = {turn: number for number, turn in enumerate(distinct)}
        turns_ND = self.embedder.embed(distinct)
        for row, prompt in enumerate(prompts):
            turns = [turn for turn in prompt if turn in place]
            if not turns or not self._places:
                continue
            cosines_UF = turns_ND[[place[turn] for turn in turns]] @ self._fields_FD.T
            shares = np.add.reduceat(cosines_UF.max(0)[self._all_places], self._starts) / self._counts
            for place_of_item in np.flatnonzero(shares > self.threshold).tolist():
                nearest = cosines_UF[:, self._places[place_of_item]].argmax(0).tolist()
                text = GAP.join(dict.fromkeys(turns[number] for number in nearest))
                found.append(Match(row, self._with_fields[place_of_item], float(shares[place_of_item]), text))
        return found
