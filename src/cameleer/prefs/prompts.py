"""The prompts that are answered: of problems, of a mixture, or of a mixture with precise instructions appended.

Appended instructions are those of the task precise-if with its own verifier, but for the families that name words of
its topics. With `relaxed`, Tülu 3's persona-IF idea, two are asked for and half of the answers are to a prompt that
lacks one of them: such an answer is to break the whole prompt's demands. The paper has a model rewrite the prompt; here
the instruction is left out, so that no model is needed and the verifier decides. Problems of a synth stage bring their
relaxed prompts with them.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cameleer.core.errors import UserError
from cameleer.core.mixture import read_prompts
from cameleer.core.problems import PROBLEMS
from cameleer.core.table import to_conversation
from cameleer.core.types import Conversation, Message
from cameleer.prefs.config import Instructions, PromptsConfig
from cameleer.tasks.precise_if_families import TRAINED_FAMILIES, Combination, compatible_pairs
from cameleer.tasks.precise_if_steps import Unsuitable, drafted
from cameleer.tasks.precise_if_topics import TOPICS
from cameleer.verify.constraints import words

VERIFIER = "constraints"
SEPARATORS = (" ", "\n", "\n\n")
DRAFT_WORDS = (5, 45)
"""Lengths of the drafts on which counts of words are modelled."""

_FAMILIES = tuple(each for each in TRAINED_FAMILIES if each.name not in ("included words", "avoided words"))
_PAIRS = compatible_pairs(_FAMILIES)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation to answer. `id` is unique within `source`; `key` within the stage.

    `verifier` is None where nothing can be verified. `relaxed`: the prompt that half of the answers are to instead.
    """

    id: str
    source: str
    messages: Conversation
    verifier: str | None = None
    target: Any = None
    relaxed: Conversation | None = None

    @property
    def key(self) -> str:
        return f"{self.source}/{self.id}"


def draw_prompts(tables: Sequence[PromptsConfig], inputs: Mapping[str, Path], seed: int) -> list[Prompt]:
    """The prompts of all tables in order. Raises UserError where a table has fewer than it asks for."""
    return [prompt for table in tables for prompt in _draw(table, inputs[table.role], f"{seed}/{table.name}")]


def _draw(table: PromptsConfig, folder: Path, seed: str) -> Iterator[Prompt]:
    rows = list(_problems(table, folder) if table.problems is not None else _mixture(table, folder))
    count = len(rows) if table.count is None else table.count
    if not rows or len(rows) < count:
        asked = "" if table.count is None else f", but {count} were asked for"
        what = f"prompts '{table.name}': {folder} has {len(rows)} prompts{asked}."
        raise UserError(what, "Ask for fewer, or make more." + (" Check `sources`." if table.sources else ""))
    chosen = sorted(random.Random(seed).sample(range(len(rows)), count))
    for repeat in range(table.repeats):
        for number in chosen:
            prompt = rows[number]
            if repeat:
                prompt = replace(prompt, id=f"{prompt.id}#{repeat + 1}")
            rng = random.Random(f"{seed}/{prompt.id}")
            added = table.instructions if table.problems is None else None
            yield prompt if added is None else instructed(prompt, rng, added)


def _problems(table: PromptsConfig, folder: Path) -> Iterator[Prompt]:
    """The problems; those that have a relaxed prompt, where it is asked for."""
    for problem in PROBLEMS.read(folder):
        if table.sources and problem.task not in table.sources:
            continue
        prompt = Prompt(problem.id, table.name, problem.messages, problem.verifier, problem.target)
        if table.instructions is None:
            yield prompt
        elif "relaxed" in problem.metadata:
            yield replace(prompt, relaxed=to_conversation(problem.metadata["relaxed"]))


def _mixture(table: PromptsConfig, folder: Path) -> Iterator[Prompt]:
    for each in read_prompts(folder, table.sources):
        yield Prompt(f"{each.source}/{each.id}", table.name, each.messages)


def instructed(prompt: Prompt, rng: random.Random, instructions: Instructions) -> Prompt:
    """The prompt with instructions appended to its last turn, and the verifier of these."""
    combination = rng.choice(_PAIRS)
    if instructions is Instructions.ADDED and rng.random() < 0.5:
        combination = (rng.choice(combination),)
    demands = _demands(rng, combination)
    rng.shuffle(demands)
    separator = rng.choice(SEPARATORS)
    wordings = [wording for wording, _ in demands]
    left_out = rng.randrange(len(wordings))
    fewer = [wording for number, wording in enumerate(wordings) if number != left_out]
    return Prompt(
        prompt.id,
        prompt.source,
        _appended(prompt.messages, separator, wordings),
        VERIFIER,
        {"constraints": [constraint for _, constraint in demands]},
        _appended(prompt.messages, separator, fewer) if instructions is Instructions.RELAXED else None,
    )


def _appended(messages: Conversation, separator: str, wordings: Sequence[str]) -> Conversation:
    last = messages[-1]
    return (*messages[:-1], Message(last.role, separator.join([last.content, " ".join(wordings)])))


def _demands(rng: random.Random, combination: Combination) -> list[tuple[str, dict[str, Any]]]:
    """A wording and a constraint of each family, with arguments that one answer can meet: read off a draft."""
    lengths = sorted(set.intersection(*(set(family.num_sentences) for family in combination)))
    while True:
        topic = rng.choice(TOPICS)
        draft = drafted(topic, topic.sentences[: rng.choice(lengths)])
        found: list[tuple[str, dict[str, Any]]] = []
        try:
            for family in combination:
                draft, kwargs = family.step(rng, draft)
                found.append((family.asked(rng, kwargs), {"id": family.constraint, "kwargs": kwargs}))
        except Unsuitable:
            continue
        if DRAFT_WORDS[0] <= len(words(draft.text)) <= DRAFT_WORDS[1]:
            return found
