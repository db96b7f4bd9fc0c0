"""The prompts that are asked for, from their draw to the conversation that is answered.

Everything random about an item follows from the seed, its table and its number there, so that an interrupted run draws
the same again. Instructions are drawn before a prompt is written: its author knows them, and they are appended in our
words, so that what is asked is what is verified.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from cameleer.core.errors import UserError
from cameleer.core.mixture import read_prompts
from cameleer.core.near_duplicates import NearDuplicates
from cameleer.core.problems import PROBLEMS
from cameleer.core.types import Conversation, Message, turns
from cameleer.core.words import words
from cameleer.synth.config import PromptKind, SynthConfig, SynthPromptsConfig
from cameleer.synth.personas import personas
from cameleer.synth.templates import EXAMPLES, ask_for_answer, ask_for_prompt, ask_for_tests, function_name, read_prompt
from cameleer.tasks.ifeval_draw import Asked, draw_instructions, with_request

SEPARATORS = (" ", "\n", "\n\n")


@dataclass(frozen=True, slots=True)
class Call:
    """One reply to be had of a model (`model.pool.Question`)."""

    key: str
    model: str
    messages: Conversation
    sample: int = 0


@dataclass(slots=True)
class Item:
    """One prompt that is asked for. `messages` is what is answered, once it is known; `lost` why it never is.

    `request` is the prompt without added instructions, by which duplicates are told.
    """

    index: int
    id: str
    table: SynthPromptsConfig
    persona: str = ""
    asked: tuple[Asked, ...] = ()
    request: Conversation = ()
    messages: Conversation = ()
    relaxed: Conversation | None = None
    lost: str = ""

    @property
    def key(self) -> str:
        return f"{self.table.name}/{self.id}"

    @property
    def function(self) -> str:
        """The function that a question about code asks for."""
        name = function_name(self.request[-1].content)
        assert name is not None, self.key
        return name


def draw_items(config: SynthConfig, inputs: Mapping[str, Path], seed: int) -> list[Item]:
    """All items in the order of the tables. Raises UserError where there are fewer prompts than are asked for."""
    items: list[Item] = []
    for table in config.prompts:
        drawn = _augmented(table, inputs[table.role], seed) if table.kind is PromptKind.AUGMENTED else None
        people = cycle(personas(config.personas, inputs.get("personas"), f"{seed}/{table.name}"))
        for number in range(table.count):
            item = Item(len(items), str(number), table)
            rng = item_rng(item, seed, "instructions")
            item.asked = draw_instructions(rng) if table.kind.has_instructions else ()
            if drawn is not None:
                item.request = drawn[number]
                add_instructions(item, seed)
            else:
                item.persona = next(people)
            items.append(item)
    return items


def item_rng(item: Item, seed: int, purpose: str) -> random.Random:
    """The random stream of an item for a purpose."""
    return random.Random(f"{seed}/{item.key}/{purpose}")


def _augmented(table: SynthPromptsConfig, folder: Path, seed: int) -> list[Conversation]:
    """`count` of the prompts of a mixture or of problems, without replacement."""
    if table.mixture is not None:
        found = [each.messages for each in read_prompts(folder, table.sources)]
    else:
        problems = (each for each in PROBLEMS.read(folder) if not table.sources or each.task in table.sources)
        found = list(dict.fromkeys(each.messages for each in problems))
    if len(found) < table.count:
        raise UserError(
            f"prompts '{table.name}': {folder} has {len(found)} prompts, but {table.count} were asked for.",
            "Ask for fewer, or make more." + (" Check `sources`." if table.sources else ""),
        )
    chosen = random.Random(f"{seed}/{table.name}").sample(range(len(found)), table.count)
    return [found[index] for index in sorted(chosen)]


def prompt_call(item: Item, config: SynthConfig, seed: int) -> Call:
    """The call that has an item's prompt written."""
    rules = [each.wording for each in item.asked]
    asked = ask_for_prompt(item.table.kind, item.persona, rules, item_rng(item, seed, "example"))
    return Call(f"{item.key}/prompt", config.writer(item.table), asked)


def take_prompt(item: Item, reply: str, seed: int) -> None:
    """Read the prompt out of its author's reply."""
    prompt = read_prompt(item.table.kind, reply)
    if prompt is None:
        item.lost = "prompt not in its form"
        return
    item.request = (Message("user", prompt),)
    item.messages = (Message("user", ask_for_answer(item.table.kind, prompt)),)
    if item.asked:
        add_instructions(item, seed)


def add_instructions(item: Item, seed: int) -> None:
    """Append the instructions to the last turn; where there are several, a relaxed prompt lacks one of them.

    An answer to the relaxed prompt is to be rejected for the whole one (technical report, §5.3, persona IF).
    """
    rng = item_rng(item, seed, "wording")
    item.asked = with_request(item.asked, item.request[-1].content)
    separator = rng.choice(SEPARATORS)
    wordings = [each.wording for each in item.asked]
    item.messages = _appended(item.request, separator, wordings)
    if len(wordings) > 1:
        left_out = rng.randrange(len(wordings))
        fewer = [wording for place, wording in enumerate(wordings) if place != left_out]
        item.relaxed = _appended(item.request, separator, fewer)


def _appended(messages: Conversation, separator: str, wordings: Sequence[str]) -> Conversation:
    last = messages[-1]
    return (*messages[:-1], Message(last.role, separator.join([last.content, " ".join(wordings)])))


def drop_duplicates(items: Sequence[Item], threshold: float, folder: Path) -> None:
    """Mark the items whose prompt equals or resembles that of an earlier one that stays, or an example of its author's.

    Small models like to say their example again.
    """
    near = NearDuplicates(threshold, folder)
    try:
        examples = [(Message("user", written),) for some in EXAMPLES.values() for _, written in some]
        names = {-1 - number: "an example" for number in range(len(examples))} | {
            item.index: item.key for item in items
        }
        first = {_words(example): -1 - number for number, example in enumerate(examples)}
        for number, example in enumerate(examples):
            near.add("", -1 - number, example)
        for item in items:
            earlier = first.setdefault(_words(item.request), item.index)
            if earlier == item.index:
                near.add("", item.index, item.request)
            else:
                item.lost = f"equal to {names[earlier]}"
        found = near.duplicates()
        for item in items:
            if item.index in found:
                item.lost = f"near-duplicate of {names[found[item.index].row]} ({found[item.index].similarity:.2f})"
    finally:
        near.close()


def _words(messages: Conversation) -> tuple[bytes, ...]:
    """By which two prompts are equal: case and punctuation do not count."""
    return tuple(word for message in messages for word in words(message.content))


def answer_calls(item: Item, config: SynthConfig) -> list[Call]:
    """The calls that have an item answered and, for code, its tests written."""
    answerer = config.answerer(item.table)
    calls = [
        Call(f"{item.key}/answer/{sample}", answerer, item.messages, sample)
        for sample in range(item.table.answers_per_prompt)
    ]
    if item.table.kind is PromptKind.CODE:
        asked = ask_for_tests(item.request[-1].content, item.function)
        calls.append(Call(tests_key(item), config.writer(item.table), asked))
    return calls


def tests_key(item: Item) -> str:
    return f"{item.key}/tests"


def described(item: Item) -> dict[str, Any]:
    """What is told of an item, as JSON."""
    return {
        "source": item.table.name,
        "id": item.id,
        "kind": item.table.kind.value,
        "persona": item.persona,
        "instructions": [each.wording for each in item.asked],
        "messages": turns(item.messages),
        "lost": item.lost,
    }
