"""What a template does to messages is found out, and what rendering cannot stand on is refused by name."""

import pytest

from cameleer.core.errors import UserError
from cameleer.core.render import Renderer
from cameleer.core.template import TRIMS, Layouts
from cameleer.core.types import Message, Role
from cameleer.model.tiny import CHATML_TEMPLATE, tiny_tokenizer


def written(content: str) -> str:
    """ChatML with another expression for a message's content."""
    assert CHATML_TEMPLATE.count("message['content']") == 1
    return CHATML_TEMPLATE.replace("message['content']", content)


def layouts(template: str) -> Layouts:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return Layouts(tokenizer)


def test_literals_are_what_the_template_writes() -> None:
    layout = layouts(CHATML_TEMPLATE).of(("system", "user"), True)
    assert layout.literals == (
        "<|im_start|>system\n",
        "<|im_end|>\n<|im_start|>user\n",
        "<|im_end|>\n<|im_start|>assistant\n",
    )
    assert (layout.turns, layout.trims) == ((0, 1), ("none", "none"))


EXPRESSIONS = {
    "none": "message['content']",
    "left newlines": "message['content'].lstrip('\n')",
    "right newlines": "message['content'].rstrip('\n')",
    "newlines": "message['content'].strip('\n')",
    "left": "message['content'].lstrip()",
    "right": "message['content'].rstrip()",
    "both": "message['content'] | trim",
}


@pytest.mark.parametrize("trim", list(TRIMS))
def test_each_way_of_trimming_is_recognised(trim: str) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = written(f"({EXPRESSIONS[trim]})")
    assert Layouts(tokenizer).of(("user", "assistant"), False).trims == (trim, trim)
    content = " \n x y\n\n \t"
    messages = (Message("user", content), Message("assistant", content))
    parsed = Renderer(tokenizer).parse(Renderer(tokenizer).render(messages).ids)
    assert [message.content for message in parsed] == [TRIMS[trim](content)] * 2


def test_trimming_of_one_role_only() -> None:
    template = written("(message['content'].strip() if message['role'] == 'user' else message['content'])")
    assert layouts(template).of(("user", "assistant"), False).trims == ("both", "none")


HI, YO = Message("user", "A cat"), Message("assistant", "Yo")
NO_END = "{% for m in messages %}{{ '### ' + m.role + '\n' + m.content + '\n' }}{% endfor %}"
NO_SYSTEM = "{% for m in messages if m.role != 'system' %}{{ m.content }}<|im_end|>{% endfor %}"
ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != loop.index0 is even %}{{ raise_exception('roles alternate') }}"
    "{% endif %}{{ m.content }}<|im_end|>{% endfor %}"
)
LATER_TURNS_SHOW = "{{ messages | length }}" + CHATML_TEMPLATE
REFUSED: dict[str, tuple[str, list[Message], str]] = {
    "no assistant": (CHATML_TEMPLATE, [HI], "no assistant turn"),
    "nothing": (CHATML_TEMPLATE, [], "no assistant turn"),
    "empty answer": (CHATML_TEMPLATE, [HI, Message("assistant", "")], "turn 2 .* is empty"),
    "answer empty once trimmed": (
        written("(message['content'] | trim)"),
        [HI, Message("assistant", " \n")],
        "is empty",
    ),
    "assistant first": (CHATML_TEMPLATE, [YO, HI, YO], "begins with an assistant turn"),
    "upper case": (written("(message['content'] | upper)"), [HI, YO], "exactly once"),
    "dropped": (NO_SYSTEM, [Message("system", "S"), HI, YO], "exactly once"),
    "inner change": (written("message['content'].replace('cat', 'dog')"), [HI, YO], "turn 1 reads 'A dog' for 'A cat'"),
    "odd trimming": (written("message['content'].strip('\n ')"), [HI, YO], "by more than trimming"),
    "no end": (NO_END, [HI, YO], 'could not learn to stop(.|\n)*"tulu"'),
    "other prompt": (
        CHATML_TEMPLATE.replace("assistant", "model"),
        [HI, YO],
        "generation prompt .* is not how it begins",
    ),
    "roles": (ALTERNATING, [HI, HI, YO], "refuses a conversation of user, user, assistant: roles alternate"),
    "history changes": (LATER_TURNS_SHOW, [HI, YO], "before turn 2 .* differently"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_refusals_say_why(name: str) -> None:
    template, messages, words = REFUSED[name]
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=words):
        Renderer(tokenizer).render(messages)


def test_unknown_role_gets_the_nearest_name() -> None:
    role: Role = "asistant"
    with pytest.raises(UserError, match=r"Turn 2 has the role 'asistant'.*Did you mean 'assistant'"):
        Renderer(tiny_tokenizer()).prompt([HI, Message(role, "x")])
