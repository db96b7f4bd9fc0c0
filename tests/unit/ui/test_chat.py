"""The chat: what it prints, what it remembers, how it stops."""

import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from cameleer.core.artifact import complete_manifest, write_json
from cameleer.core.errors import UserError
from cameleer.core.render import Renderer
from cameleer.core.types import Message
from cameleer.model.generate import LocalGenerator, Sampling, generate
from cameleer.model.load import load_renderer, save_model
from cameleer.model.tiny import tiny_model, tiny_tokenizer
from cameleer.ui import chat as ui
from cameleer.ui.chat import Chat, chat


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(tiny_model("qwen3", seed=4), tiny_tokenizer(), folder)
    return folder


@pytest.fixture(scope="module")
def renderer(model_folder: Path) -> Renderer:
    return load_renderer(model_folder, "model")


def local_generator(renderer: Renderer) -> LocalGenerator:
    return LocalGenerator(tiny_model("qwen3", seed=4), renderer.stop_ids)


class Scripted(LocalGenerator):
    """Answers the turns of a conversation with given texts, then with the end token alone."""

    def __init__(self, renderer: Renderer, answers: Sequence[str], context: int | None = None) -> None:
        super().__init__(tiny_model(), renderer.stop_ids)
        self._tokenizer, self._answers, self._context = tiny_tokenizer(), iter(answers), context
        self.prompts: list[list[int]] = []

    @property
    def context_length(self) -> int | None:
        return self._context

    def tokens(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[int]:
        self.prompts.append(list(prompt))
        yield from self._tokenizer(next(self._answers, ""))["input_ids"]
        yield min(self.stop_ids)


class Terminal(io.StringIO):
    """A standard input at which a person sits."""

    def isatty(self) -> bool:
        return True


def use(generator: LocalGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the chat find this generator in place of the model's."""

    def load(*_: Any) -> LocalGenerator:
        return generator

    monkeypatch.setattr(ui, "load_generator", load)


def talk(monkeypatch: pytest.MonkeyPatch, model: str, lines: str, **settings: int) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    chat(model, **settings)


def test_piped_lines_are_answered_in_one_conversation(
    model_folder: Path, renderer: Renderer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Greedy, so the answers are those that `generate` gives to the conversation so far; blank lines are no turns."""
    talk(monkeypatch, str(model_folder), "What is 2 + 2?\n\n  and 3?  \n", max_new_tokens=9)
    messages: list[Message] = []
    answers: list[str] = []
    for question in ("What is 2 + 2?", "and 3?"):
        messages.append(Message("user", question))
        [completion] = generate(local_generator(renderer), [renderer.prompt(messages)], Sampling(9))
        answers.append(renderer.decode(completion.ids))
        messages.append(Message("assistant", answers[-1]))
    assert all(answers)
    assert capsys.readouterr().out == "".join(f"{answer}\n" for answer in answers)


def test_pieces_add_up_to_the_answer_whatever_tokens_cut(renderer: Renderer) -> None:
    """Characters of several bytes are several tokens here; no piece shows half a character."""
    answer = "Größe: 20 °C, 你好 🐫!"
    session = Chat(Scripted(renderer, [answer]), renderer)
    pieces = list(session.answer("?"))
    assert "".join(pieces) == answer and len([piece for piece in pieces if piece]) > 5
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)
    assert session.messages == [Message("user", "?"), Message("assistant", answer)]


def test_an_answer_that_ends_within_a_character_is_shown_to_its_end(renderer: Renderer) -> None:
    session = Chat(Scripted(renderer, []), renderer)
    half = list(tiny_tokenizer()("ab🐫")["input_ids"])[:-1]
    session.generator.tokens = lambda prompt, sampling: iter(half)
    assert "".join(session.answer("?")) == "ab\N{REPLACEMENT CHARACTER}"


def test_closing_an_answer_keeps_what_was_said(renderer: Renderer) -> None:
    session = Chat(Scripted(renderer, ["one two three", "four"]), renderer)
    pieces = session.answer("count")
    said = next(pieces) + next(pieces)
    pieces.close()
    assert session.messages == [Message("user", "count"), Message("assistant", said)]
    assert "".join(session.answer("on")) == "four" and len(session.messages) == 4


def test_a_question_without_an_answer_is_forgotten(renderer: Renderer) -> None:
    """The model's first token is the end of the turn."""
    session = Chat(Scripted(renderer, [""]), renderer)
    assert "".join(session.answer("?")) == "" and session.messages == []


def test_reset_forgets_and_quit_leaves(
    model_folder: Path, renderer: Renderer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = Scripted(renderer, ["first", "second", "third"])
    use(generator, monkeypatch)
    talk(monkeypatch, str(model_folder), "a\n/reset\nb\n/rest\n/quit\nc\n")
    captured = capsys.readouterr()
    assert captured.out == "first\nsecond\n"
    assert generator.prompts == [renderer.prompt([Message("user", text)]) for text in ("a", "b")]
    assert "No command /rest. Did you mean '/reset'?" in captured.err


def test_a_full_context_is_said_and_reset_helps(renderer: Renderer) -> None:
    question = [Message("user", "How much fits?")]
    context = len(renderer.prompt(question)) + 20
    session = Chat(Scripted(renderer, ["some long answer"] * 2, context), renderer)
    assert "".join(session.answer("How much fits?")) == "some long answer"
    with pytest.raises(UserError, match=f"context of {context} is full"):
        list(session.answer("And now?"))
    assert len(session.messages) == 2
    session.messages = []
    assert "".join(session.answer("How much fits?")) == "some long answer"


def test_a_person_stops_an_answer_and_goes_on(
    model_folder: Path, renderer: Renderer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C while the answer is sampled, Ctrl-C at the prompt, another question, Ctrl-D."""
    generator = Scripted(renderer, ["never ending", "done"])
    sampled = generator.tokens

    def interrupted(prompt: Sequence[int], sampling: Sampling) -> Iterator[int]:
        for number, id in enumerate(sampled(prompt, sampling)):
            if len(generator.prompts) == 1 and number == 5:
                raise KeyboardInterrupt
            yield id

    typed = iter(["go", KeyboardInterrupt(), "", "  more  ", EOFError()])

    def type_line(_: str) -> str:
        line = next(typed)
        if isinstance(line, BaseException):
            raise line
        return line

    generator.tokens = interrupted
    use(generator, monkeypatch)
    monkeypatch.setattr("builtins.input", type_line)
    monkeypatch.setattr(sys, "stdin", Terminal())
    chat(str(model_folder))
    said = renderer.decode(tiny_tokenizer()("never ending")["input_ids"][:5])
    expected = [Message("user", "go"), Message("assistant", said), Message("user", "more")]
    assert generator.prompts[1] == renderer.prompt(expected)
    assert capsys.readouterr().out == f"{said} …\ndone\n\n"


def test_a_model_made_under_another_template_is_refused(tmp_path: Path) -> None:
    save_model(tiny_model(attention="sdpa"), tiny_tokenizer(), tmp_path)
    manifest = complete_manifest(kind="sft", name="sft", key="k", config={}, inputs={}, seed=0)
    write_json(tmp_path / "manifest.json", {**vars(manifest), "template_fingerprint": "0" * 64})
    with pytest.raises(UserError, match="made under another chat template"):
        chat(str(tmp_path))
