"""What a chat template writes around the messages, learned by rendering marks in their place.

A chat template is a program; nothing in its output says where the messages are. The same roles are rendered once with a
unique mark as each content. What stands between the marks is the template's own text (literals):

    literal₀ content₀ literal₁ content₁ … literalₙ

A second render, with whitespace around the marks, tells what the template trims. Both are done once per role sequence.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jinja2

from cameleer.core.errors import UserError
from cameleer.core.types import Role

TULU_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '<|assistant|>\\n' + message['content'] + eos_token }}"
    "{% if not loop.last or add_generation_prompt %}{{ '\\n' }}{% endif %}"
    "{% else %}"
    "{{ '<|' + message['role'] + '|>\\n' + message['content'] + '\\n' }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
"""Tülu 3's text (paper, figure 27). It writes no BOS: open-instruct rendered Tülu 3's data with this template through
`apply_chat_template`, which adds none, so its rows begin with `<|`; its `--add_bos` was for OLMo only. One departure:
a generation prompt after an assistant turn begins on a new line, as that turn would have in a whole conversation."""

MARK = re.compile(r"zq(\d{4})qz")
PADDING_BEFORE, PADDING_AFTER = "\n \n\t", "\t\n \n"
# What templates do to the ends of contents, the least first. Jinja's trim is Python's strip.
TRIMS: dict[str, Callable[[str], str]] = {
    "none": str,
    "left newlines": lambda text: text.lstrip("\n"),
    "right newlines": lambda text: text.rstrip("\n"),
    "newlines": lambda text: text.strip("\n"),
    "left": str.lstrip,
    "right": str.rstrip,
    "both": str.strip,
}
Roles = tuple[Role, ...]


class ChatTokenizer(Protocol):
    """What rendering needs of a Hugging Face tokenizer (`transformers.PreTrainedTokenizerFast`)."""

    chat_template: Any

    @property
    def eos_token(self) -> Any: ...
    @property
    def eos_token_id(self) -> Any: ...
    @property
    def special_tokens_map(self) -> Mapping[str, Any]: ...
    @property
    def added_tokens_decoder(self) -> Mapping[int, Any]: ...
    @property
    def backend_tokenizer(self) -> Any: ...
    def apply_chat_template(self, conversation: Any, *, tokenize: bool, add_generation_prompt: bool) -> Any: ...
    def decode(self, token_ids: Any, **options: Any) -> Any: ...
    def save_pretrained(self, save_directory: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class Layout:
    """A template's text for a sequence of roles: n + 1 literals around n contents, in the order of the text.

    `turns[i]` is the turn whose content follows literal i, `trims[i]` the name of what the template trims off it.
    """

    literals: tuple[str, ...]
    turns: tuple[int, ...]
    trims: tuple[str, ...]


class Layouts:
    """The layouts that a tokenizer's chat template gives to sequences of roles."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[tuple[Roles, bool], Layout] = {}

    def apply(self, roles: Roles, contents: Sequence[str], generation_prompt: bool) -> str:
        """The text that the template renders. Raises UserError if it refuses the roles."""
        turns = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]
        try:
            return self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=generation_prompt)
        except jinja2.TemplateError as failure:
            raise UserError(f"The chat template refuses {describe(roles)}: {failure}") from None

    def of(self, roles: Roles, generation_prompt: bool) -> Layout:
        """The layout of a sequence of roles.

        Raises UserError if the template refuses it, or does anything but write each content once, as it is or trimmed.
        """
        key = (roles, generation_prompt)
        if key not in self._known:
            marks = [f"zq{turn:04}qz" for turn in range(len(roles))]
            text = self.apply(roles, marks, generation_prompt)
            literals = tuple(MARK.split(text)[::2])
            turns = tuple(map(int, MARK.findall(text)))
            if sorted(turns) != list(range(len(roles))):
                raise UserError(f"The chat template does not write each message of {describe(roles)} exactly once.")
            padded = [PADDING_BEFORE + mark + PADDING_AFTER for mark in marks]
            trims = find_trims(self.apply(roles, padded, generation_prompt), literals, [padded[turn] for turn in turns])
            if trims is None:
                raise UserError(f"The chat template changes the contents of {describe(roles)} by more than trimming.")
            self._known[key] = Layout(literals, turns, trims)
        return self._known[key]

    def literals_in_order(self, roles: Roles, generation_prompt: bool) -> tuple[str, ...] | None:
        """The literals where the template keeps the order of the turns; None where it does not or refuses the roles."""
        try:
            layout = self.of(roles, generation_prompt)
        except UserError:
            return None
        return layout.literals if layout.turns == tuple(range(len(roles))) else None


def describe(roles: Roles) -> str:
    """A sequence of roles in words, for messages to the user."""
    shown = ", ".join(roles[:6]) + (", …" if len(roles) > 6 else "")
    return f"a conversation of {shown}"


def find_trims(text: str, literals: Sequence[str], padded: Sequence[str]) -> tuple[str, ...] | None:
    """Which of TRIMS the template did to each padded content of `text`; None if it did anything else."""
    if not text.startswith(literals[0]):
        return None
    place, found = len(literals[0]), list[str]()
    for content, literal in zip(padded, literals[1:], strict=True):
        for name, trim in TRIMS.items():
            expected = trim(content) + literal
            if text.startswith(expected, place):
                found.append(name)
                place += len(expected)
                break
        else:
            return None
    return tuple(found) if place == len(text) else None
