"""Who answers which prompt: each has `num_responses` places, for which models of the pool are drawn.

The places are shuffled, so that no model has a place of its own in what a judge sees. The pool is `model.pool`.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from cameleer.core.types import Conversation
from cameleer.model.pool import Source
from cameleer.prefs.config import PrefsConfig
from cameleer.prefs.prompts import Prompt


@dataclass(frozen=True, slots=True)
class Slot:
    """One answer to be had: the `place`th of a prompt, by a model that has given it `sample` answers before.

    `index` is the prompt's place among all. `relaxed`: the answer is to the prompt's relaxed form.
    """

    index: int
    prompt: Prompt
    place: int
    model: str
    sample: int
    relaxed: bool

    @property
    def messages(self) -> Conversation:
        """The conversation that is answered."""
        return self.prompt.relaxed if self.relaxed and self.prompt.relaxed is not None else self.prompt.messages

    @property
    def key(self) -> str:
        return f"{self.prompt.key}/{self.place}"


def assign(
    prompts: Iterable[Prompt], pool: Mapping[str, Source], config: PrefsConfig, seed: int
) -> Iterator[list[Slot]]:
    """The slots of each prompt. One to which the pool cannot give so many answers has fewer."""
    for index, prompt in enumerate(prompts):
        rng = random.Random(f"{seed}/models/{prompt.key}")
        names = _drawn(prompt, pool, config, rng)
        used = Counter[str]()
        slots: list[Slot] = []
        for place, name in enumerate(names):
            slots.append(Slot(index, prompt, place, name, used[name], prompt.relaxed is not None and place % 2 == 1))
            used[name] += 1
        yield slots


def _drawn(prompt: Prompt, pool: Mapping[str, Source], config: PrefsConfig, rng: random.Random) -> list[str]:
    """The policy first, if there is one; then the others in turn, in an order drawn for the prompt; shuffled."""
    # A relaxed prompt's places are not known yet: what is recorded must do for each of its two forms.
    forms = [prompt.messages] if prompt.relaxed is None else [prompt.messages, prompt.relaxed]
    left = {name: source.capacity(forms) for name, source in pool.items()}
    others = [name for name in pool if name != config.policy] or list(pool)
    rng.shuffle(others)
    rounds = config.num_responses
    turns = ([config.policy] if config.policy is not None else []) + others * rounds
    chosen: list[str] = []
    for name in turns:
        room = left[name]
        if len(chosen) < config.num_responses and (room is None or room > 0):
            chosen.append(name)
            left[name] = None if room is None else room - 1
    rng.shuffle(chosen)
    return chosen
