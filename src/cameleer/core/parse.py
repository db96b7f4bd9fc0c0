"""Rendered ids back to conversations, for whoever shows or checks them; nothing is trained on what comes out.

The template's literals between two turns (joints) are learned from probes of several role sequences: SmolLM2's default
system prompt is then part of how a conversation with the user begins, not a turn. A turn ends at the first joint that
may follow it. Limits: what a template folds into another turn (Gemma: system into user) stays there; content that
spells a joint of plain text (Tülu's `\\n<|assistant|>\\n`) ends the turn early; what the tokenizer normalises stays so.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from cameleer.core.errors import UserError
from cameleer.core.template import Roles
from cameleer.core.types import Conversation, Message, Role

PROBES: tuple[Roles, ...] = (
    ("user",),
    ("user", "assistant"),
    ("user", "assistant", "user", "assistant"),
    ("user", "assistant", "user"),
    ("system", "user"),
    ("system", "user", "assistant"),
    ("system", "user", "assistant", "user", "assistant"),
    ("system",),
    ("user", "user", "assistant"),
    ("user", "assistant", "assistant"),
    ("user", "system", "assistant"),
    ("user", "assistant", "system", "user", "assistant"),
)
# Lone surrogates stand for special tokens: no decoded text holds them.
FIRST_SYMBOL, NUM_SYMBOLS = 0xD800, 0x800
END_OF_TEXT = r"\Z"


@dataclass(frozen=True, slots=True)
class Grammar:
    """What may begin a conversation and what may follow a turn, with special tokens as single symbols.

    `start` and each `after[role]` are patterns of alternatives; the group that matched says, by its number, the role
    that follows in `start_roles` or `next_roles[role]` (None: the conversation ends). `symbols`: by special token id.
    """

    start: re.Pattern[str]
    start_roles: list[Role]
    after: dict[Role, re.Pattern[str]]
    next_roles: dict[Role, list[Role | None]]
    symbols: dict[int, str]
    spelling: dict[str, str]

    def parse(self, text: str) -> Conversation:
        """The turns of a text. A last turn that does not end is returned as far as it goes."""
        match = self.start.match(text)
        if match is None:
            raise UserError("The ids do not begin as the chat template begins a conversation.")
        messages: list[Message] = []
        role: Role | None = self.start_roles[(match.lastindex or 0) - 1]
        place = match.end()
        while role is not None:
            match = self.after[role].search(text, place) if role in self.after else None
            end = len(text) if match is None else match.start()
            messages.append(Message(role, self._spell(text[place:end])))
            role = None if match is None else self.next_roles[role][(match.lastindex or 0) - 1]
            place = end if match is None else match.end()
        return tuple(messages)

    def _spell(self, content: str) -> str:
        return "".join(self.spelling.get(character, character) for character in content)


def learn_grammar(
    literals_of: Callable[[Roles, bool], tuple[str, ...] | None],
    special_ids: Mapping[str, int],
    special: re.Pattern[str],
) -> Grammar:
    """Learn from probes. `literals_of(roles, generation_prompt)` gives a template's literals, or None if it refuses.

    `special` matches the special tokens' names, `special_ids` gives their ids.
    """
    starts: dict[str, Role] = {}
    joints: dict[Role, dict[str, Role]] = {}
    tails: dict[Role, set[str]] = {}
    for roles in PROBES:
        for generation_prompt in (False, True):
            literals = literals_of(roles, generation_prompt)
            if literals is None:
                continue
            starts.setdefault(literals[0], roles[0])
            for before, then, literal in zip(roles, roles[1:], literals[1:], strict=False):
                joints.setdefault(before, {}).setdefault(literal, then)
            tails.setdefault(roles[-1], set()).add(literals[-1])
            end = special.search(literals[-1])
            if end is not None:
                # As sampling leaves it: nothing after the end token.
                tails[roles[-1]].add(literals[-1][: end.end()])
    texts = {text for group in (starts, *joints.values(), *tails.values()) for text in group}
    spelled = sorted({token for text in texts for token in special.findall(text)})
    assert len(spelled) <= NUM_SYMBOLS, f"{len(spelled)} special tokens in one template"
    symbol = {token: chr(FIRST_SYMBOL + number) for number, token in enumerate(spelled)}

    def coded(text: str) -> str:
        return special.sub(lambda match: symbol[match.group()], text)

    after: dict[Role, re.Pattern[str]] = {}
    next_roles: dict[Role, list[Role | None]] = {}
    for role in joints.keys() | tails.keys():
        ends: list[tuple[str, Role | None]] = [(coded(text), None) for text in tails.get(role, ())]
        turns: list[tuple[str, Role | None]] = [(coded(text), then) for text, then in joints.get(role, {}).items()]
        after[role], next_roles[role] = alternatives([*ends, *turns])
    start, start_roles = alternatives([(coded(text), role) for text, role in starts.items()])
    return Grammar(
        start=start,
        start_roles=[role for role in start_roles if role is not None],
        after=after,
        next_roles=next_roles,
        symbols={special_ids[token]: sign for token, sign in symbol.items()},
        spelling={sign: token for token, sign in symbol.items()},
    )


def alternatives(options: Iterable[tuple[str, Role | None]]) -> tuple[re.Pattern[str], list[Role | None]]:
    """A pattern with one group for each option, and the role that each group stands for.

    Longest first. None, the end of the conversation, matches at the end of the text only and goes before a role.
    """
    ordered = sorted(options, key=lambda option: (-len(option[0]), option[1] is not None, option[0]))
    groups = "|".join(f"({re.escape(text)}{'' if role else END_OF_TEXT})" for text, role in ordered)
    return re.compile(groups or "(?!)"), [role for _, role in ordered]
