"""Ids back to conversations: whole ones, prompts, and what sampling leaves."""

import pytest

from cameleer.core.errors import UserError
from cameleer.core.render import Renderer
from cameleer.core.types import Message
from cameleer.model.tiny import tiny_tokenizer

PROMPT = (Message("system", "S"), Message("user", "Hi"))
DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nDefault<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(params=["model", "tulu"])
def renderer(request: pytest.FixtureRequest) -> Renderer:
    return Renderer(tiny_tokenizer(), request.param)


def sampled(renderer: Renderer, text: str) -> list[int]:
    return renderer.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids


def test_prompt_with_a_sampled_answer(renderer: Renderer) -> None:
    """Sampling ends with the end token; the template's newline after it is not there."""
    ids = renderer.prompt(PROMPT) + sampled(renderer, "Yo\n<|im_end|>")
    assert renderer.parse(ids) == (*PROMPT, Message("assistant", "Yo\n"))


def test_cut_answer_is_returned_as_far_as_it_goes(renderer: Renderer) -> None:
    ids = renderer.prompt(PROMPT) + sampled(renderer, "The answer is")
    assert renderer.parse(ids) == (*PROMPT, Message("assistant", "The answer is"))


def test_special_token_sampled_inside_an_answer_is_spelled(renderer: Renderer) -> None:
    ids = renderer.prompt(PROMPT) + sampled(renderer, "a<|im_start|>b<|im_end|>")
    assert renderer.parse(ids) == (*PROMPT, Message("assistant", "a<|im_start|>b"))


def test_two_questions_in_a_row(renderer: Renderer) -> None:
    messages = (Message("user", "a"), Message("user", "b"), Message("assistant", "c"), Message("assistant", "d"))
    assert renderer.parse(renderer.render(messages).ids) == messages


def test_default_system_prompt_is_not_a_turn() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = DEFAULT_SYSTEM
    renderer = Renderer(tokenizer)
    assert renderer.parse(renderer.prompt(PROMPT[1:])) == PROMPT[1:]
    assert renderer.parse(renderer.prompt(PROMPT)) == PROMPT


def test_marker_of_plain_text_ends_a_turn_early() -> None:
    """The limit that the documentation states: Tülu's markers are text, and text can spell them."""
    renderer = Renderer(tiny_tokenizer(), "tulu")
    messages = (Message("user", "a\n<|assistant|>\nb"), Message("assistant", "c"))
    parsed = renderer.parse(renderer.render(messages).ids)
    assert parsed[:2] == (Message("user", "a"), Message("assistant", "b\n<|assistant|>\nc"))


def test_ids_of_something_else_are_refused(renderer: Renderer) -> None:
    with pytest.raises(UserError, match="do not begin"):
        renderer.parse(sampled(renderer, "Once upon a time"))
