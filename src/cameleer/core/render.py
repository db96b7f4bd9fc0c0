"""Conversations ↔ token ids, with the mask of what is trained.

`cameleer.core.template` gives the template's own text for a sequence of roles. Filled with the real contents it must
give what the template really renders, else a UserError says which turn the template changes.

* The trained span of an assistant turn begins where sampling would: at the end of the generation prompt, which is
  rendered from the turns before. What the template puts between there and the content (an empty think block) is
  trained. The span ends with the first special token after the content (`<|im_end|>`, `<|eot_id|>`, eos).
* The text is cut at the beginnings of these spans and each piece is tokenised by itself. So the ids of a training row
  begin with the ids of the prompt that sampling would start from, always, and no token straddles the two.
* Otherwise ids equal those of `tokenizer.apply_chat_template`: no BOS but the one that the template writes, no prefix
  space but the ones that the whole text has.
* A special token's name inside a message stays text: such pieces are tokenised between their real special tokens only.
  "Special" is what the tokenizer marks as such; other added tokens (`<think>` in some models) do come out of contents.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from cameleer.core.errors import UserError, did_you_mean
from cameleer.core.parse import Grammar, learn_grammar
from cameleer.core.template import TRIMS, TULU_TEMPLATE, ChatTokenizer, Layout, Layouts, Roles, describe
from cameleer.core.types import ROLES, ChatTemplate, Conversation, Message

# Characters that a sentencepiece tokenizer is made to read before a piece so that it adds no prefix space to it.
GUARDS = ("\n", "!", "?", "=", "1", "a", "Z", "。", "я")
TULU_HINT = 'Set chat_template = "tulu" to use Tülu\'s template.'


@dataclass(frozen=True, slots=True)
class Rendered:
    """One training row: token ids, and for each whether it is a target of the loss."""

    ids: list[int]
    trained: list[bool]


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that is tokenised by itself: literals, and turns (as their index) whose contents go there.

    `before`: the special token that stands right before the piece, if one does; `first`: the piece begins the text.
    `specials`: the ids of the special tokens that the literals spell. `end`: which of them ends the assistant turn that
    the piece begins with; None for the piece that begins the text.
    """

    parts: tuple[str | int, ...]
    first: bool
    before: str | None
    specials: tuple[int, ...]
    end: int | None


class Renderer:
    """Renders conversations with a tokenizer and its chat template.

    Attributes: `tokenizer`; `fingerprint`, a digest of the template and the special tokens, by which stages recognise
    each other's rendering; `stop_ids`, the ids on which generation stops: the end of a turn and the tokenizer's eos.
    """

    def __init__(self, tokenizer: ChatTokenizer, template: ChatTemplate = "model") -> None:
        """`template`: "model" is the tokenizer's own; "tulu" puts TULU_TEMPLATE into the tokenizer, which then also
        saves it. Raises UserError if the tokenizer has no template, or no eos token for Tülu's."""
        self.tokenizer = tokenizer
        if template == "tulu":
            if tokenizer.eos_token is None:
                raise UserError("Tülu's chat template ends turns with the eos token, and the tokenizer has none.")
            tokenizer.chat_template = TULU_TEMPLATE
        if not tokenizer.chat_template:
            raise UserError("The model's tokenizer has no chat template.", TULU_HINT)
        self.fingerprint = fingerprint(tokenizer)
        added = {token_id: token for token_id, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._special_ids: dict[str, int] = {str(token): token_id for token_id, token in added.items()}
        self._id_set = frozenset(added)
        self._eats_left = frozenset(token_id for token_id, token in added.items() if token.lstrip)
        self._eats_right = frozenset(token_id for token_id, token in added.items() if token.rstrip)
        longest_first = sorted(self._special_ids, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)) if longest_first else r"(?!)")
        self._layouts = Layouts(tokenizer)
        self._plans: dict[tuple[Roles, bool], tuple[Piece, ...]] = {}
        self._guard_ids, self._prefixes_text, self._prefixes_segments = self._detect_prefix_space()
        self.stop_ids = self._find_stop_ids()

    # --- conversations to ids ---

    def render(self, messages: Sequence[Message]) -> Rendered:
        """The ids of a whole conversation; trained are its assistant turns with their end tokens.

        `render([*messages, answer]).ids` begins with `prompt(messages)`. Raises UserError for a conversation without an
        assistant turn, with an empty one or an unknown role, and where the template is not the kind described above.
        """
        if not any(message.role == "assistant" for message in messages):
            raise UserError("The conversation has no assistant turn: there is nothing to train on.")
        ids: list[int] = []
        trained: list[bool] = []
        for piece_ids, num_trained in self._encode(messages, generation_prompt=False):
            ids += piece_ids
            trained += [True] * num_trained
            trained += [False] * (len(piece_ids) - num_trained)
        return Rendered(ids, trained)

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids up to and including the generation prompt. The last message must not be the assistant's."""
        if not messages or messages[-1].role == "assistant":
            raise UserError("A prompt needs at least one message and must not end with an assistant turn.")
        return [token for piece_ids, _ in self._encode(messages, generation_prompt=True) for token in piece_ids]

    def answer(self, messages: Sequence[Message], text: str) -> list[int]:
        """The ids of an answer after `prompt(messages)`, up to and including its end token."""
        rendered = self.render([*messages, Message("assistant", text)])
        end = len(rendered.trained) - rendered.trained[::-1].index(True)
        return rendered.ids[len(self.prompt(messages)) : end]

    def continuation(self, text: str) -> list[int]:
        """The ids of text that goes on after a prompt, such as the beginning of an answer; all of it read as text."""
        return self._tokenize_inside(text)

    def plain(self, text: str) -> list[int]:
        """The ids of a text that is no conversation, with the special tokens that the tokenizer begins texts with."""
        return self.tokenizer.backend_tokenizer.encode(text).ids

    def _encode(self, messages: Sequence[Message], generation_prompt: bool) -> list[tuple[list[int], int]]:
        """Ids of each piece, and how many of them, from its beginning, are trained."""
        roles: Roles = tuple(message.role for message in messages)
        check_roles(roles)
        plan = self._plan(roles, generation_prompt)
        contents = self._trimmed(messages, self._layouts.of(roles, generation_prompt))
        for turn in assistant_turns(roles):
            if not contents[turn]:
                raise UserError(f"The assistant's turn {turn + 1} of {describe(roles)} is empty.")
        texts = [fill(piece.parts, contents) for piece in plan]
        real = self._layouts.apply(roles, [message.content for message in messages], generation_prompt)
        if "".join(texts) != real:
            raise UserError(f"The chat template changes what is in the messages: {first_change(plan, contents, real)}.")
        encoded = self._tokenize_all(plan, texts)
        for number, (piece, ids) in enumerate(zip(plan, encoded, strict=True)):
            if tuple(filter(self._id_set.__contains__, ids)) != piece.specials:
                encoded[number] = self._tokenize_between_specials(piece, contents)
        return [(ids, self._num_trained(piece, ids)) for piece, ids in zip(plan, encoded, strict=True)]

    def _num_trained(self, piece: Piece, ids: list[int]) -> int:
        if piece.end is None:
            return 0
        return [place for place, token in enumerate(ids) if token in self._id_set][piece.end] + 1

    def _trimmed(self, messages: Sequence[Message], layout: Layout) -> list[str]:
        contents = [message.content for message in messages]
        for turn, trim in zip(layout.turns, layout.trims, strict=True):
            if trim != "none":
                contents[turn] = TRIMS[trim](contents[turn])
        return contents

    # --- what the template does with a sequence of roles ---

    def _plan(self, roles: Roles, generation_prompt: bool) -> tuple[Piece, ...]:
        """How to cut and check the text of a sequence of roles."""
        key = (roles, generation_prompt)
        if key not in self._plans:
            layout = self._layouts.of(roles, generation_prompt)
            cuts = {layout.turns.index(turn): self._cut(roles, layout, turn) for turn in assistant_turns(roles)}
            ends = {place: self._end(layout, place, cuts, roles) for place in cuts}
            plan = tuple(self._pieces(layout, cuts, ends))
            self._check_specials(plan, len(roles))
            self._plans[key] = plan
        return self._plans[key]

    def _cut(self, roles: Roles, layout: Layout, turn: int) -> int:
        """How much of the literal before an assistant turn belongs to its prompt, from the prompt's own render."""
        if turn == 0:
            raise UserError("The conversation begins with an assistant turn: there is no prompt to sample it from.")
        place = layout.turns.index(turn)
        prompt = self._layouts.of(roles[:turn], True)
        same_turns = (prompt.turns, prompt.trims) == (layout.turns[:place], layout.trims[:place])
        if not same_turns or prompt.literals[:-1] != layout.literals[:place]:
            raise UserError(
                f"The chat template writes the turns before turn {turn + 1} of {describe(roles)} differently when "
                "they are the prompt: what is trained is not what would be sampled from."
            )
        if not layout.literals[place].startswith(prompt.literals[-1]):
            raise UserError(
                f"The chat template's generation prompt {prompt.literals[-1]!r} is not how it begins the assistant's "
                f"turn {turn + 1} of {describe(roles)}: {layout.literals[place]!r}."
            )
        return len(prompt.literals[-1])

    def _end(self, layout: Layout, place: int, cuts: Mapping[int, int], roles: Roles) -> int:
        """Which special token of the piece that begins at `place` ends the assistant's turn."""
        after = layout.literals[place + 1]
        if self._special.search(after[: cuts.get(place + 1, len(after))]) is None:
            raise UserError(
                f"The chat template puts no special token after the assistant's content in {describe(roles)}: "
                "the model could not learn to stop.",
                TULU_HINT,
            )
        return len(self._spelled(layout.literals[place][cuts[place] :]))

    def _pieces(self, layout: Layout, cuts: Mapping[int, int], ends: Mapping[int, int]) -> Iterator[Piece]:
        parts: list[str | int] = []
        before, first, end = "", True, None
        for place, literal in enumerate(layout.literals):
            if place in cuts:
                parts.append(literal[: cuts[place]])
                yield self._piece(parts, first, before, end)
                before, first, end = literal[: cuts[place]], False, ends[place]
                literal, parts = literal[cuts[place] :], []
            parts.append(literal)
            parts += layout.turns[place : place + 1]
        yield self._piece(parts, first, before, end)

    def _piece(self, parts: list[str | int], first: bool, before: str, end: int | None) -> Piece:
        spelled = [token for part in parts if isinstance(part, str) for token in self._spelled(part)]
        last = next((token for token in self._special.findall(before)[-1:] if before.endswith(token)), None)
        specials = tuple(self._special_ids[token] for token in spelled)
        return Piece(tuple(part for part in parts if part != ""), first, last, specials, end)

    def _spelled(self, literal: str) -> list[str]:
        return self._special.findall(literal)

    def _check_specials(self, plan: Sequence[Piece], num_turns: int) -> None:
        """The tokenizer must read the special tokens that the template spells, no others."""
        texts = [fill(piece.parts, ["x"] * num_turns) for piece in plan]
        for piece, ids in zip(plan, self._tokenize_all(plan, texts), strict=True):
            read = tuple(filter(self._id_set.__contains__, ids))
            if read != piece.specials:
                raise UserError(
                    f"The tokenizer reads special tokens {read} where the template spells {piece.specials}."
                )

    def _find_stop_ids(self) -> tuple[int, ...]:
        found = set() if self.tokenizer.eos_token_id is None else {int(self.tokenizer.eos_token_id)}
        once: Roles = ("user", "assistant")
        for roles in (once, once * 2):
            try:
                plan = self._plan(roles, False)
            except UserError:
                # Rendering such a conversation will say what is wrong; prompts may still be fine.
                continue
            found |= {piece.specials[piece.end] for piece in plan if piece.end is not None}
        return tuple(sorted(found))

    # --- text to ids ---

    def _tokenize_all(self, plan: Sequence[Piece], texts: Sequence[str]) -> list[list[int]]:
        """Ids of pieces of one text, each tokenised by itself as though what stands before it were there."""
        leads = [self._lead(piece) for piece in plan]
        encoded = self._tokenize([lead + text for lead, text in zip(leads, texts, strict=True)])
        for number, (piece, lead) in enumerate(zip(plan, leads, strict=True)):
            if piece.before is not None:
                assert encoded[number][0] == self._special_ids[piece.before], (piece.before, encoded[number][:2])
                del encoded[number][0]
            elif lead:
                encoded[number] = self._without_guard(encoded[number], texts[number])
        return encoded

    def _lead(self, piece: Piece) -> str:
        if piece.first:
            return ""
        return piece.before or (GUARDS[0] if self._prefixes_text else "")

    def _tokenize(self, texts: list[str], split_special_tokens: bool = False) -> list[list[int]]:
        # Not through the tokenizer's __call__, which computes offsets of each token: twice as slow. What a caller of
        # __call__ sets there (padding, truncation) stays set in the backend.
        backend = self.tokenizer.backend_tokenizer
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = split_special_tokens
        try:
            return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]
        finally:
            backend.encode_special_tokens = False

    def _tokenize_inside(self, text: str) -> list[int]:
        """Ids of text that goes on after other text, with all of it read as text."""
        if not text or not self._prefixes_text:
            return self._tokenize([text], split_special_tokens=True)[0] if text else []
        ids = self._tokenize([GUARDS[0] + text], split_special_tokens=True)[0]
        return self._without_guard(ids, text, split_special_tokens=True)

    def _without_guard(self, ids: list[int], text: str, split_special_tokens: bool = False) -> list[int]:
        """Take the guard's ids off the guarded text's; where the two have merged, try other guards."""
        if ids[: len(self._guard_ids)] == self._guard_ids:
            return ids[len(self._guard_ids) :]
        for guard in GUARDS[1:]:
            guard_ids, guarded = self._tokenize([guard, guard + text], split_special_tokens)
            if guarded[: len(guard_ids)] == guard_ids:
                return guarded[len(guard_ids) :]
        raise UserError(f"The tokenizer cannot read {text[:20]!r} as the continuation of a text.")

    def _tokenize_between_specials(self, piece: Piece, contents: Sequence[str]) -> list[int]:
        """Ids of a piece whose contents spell special tokens: the literals' ones are ids, all between them is text."""
        ids: list[int] = []
        last = None if piece.before is None else self._special_ids[piece.before]
        at_start = piece.first
        for text, special in split_at_specials(piece.parts, contents, self._special):
            following = None if special is None else self._special_ids[special]
            text = text.lstrip() if last in self._eats_right else text
            text = text.rstrip() if following in self._eats_left else text
            own_start = at_start or (last is not None and self._prefixes_segments)
            if text:
                ids += self._tokenize([text], True)[0] if own_start else self._tokenize_inside(text)
            if following is not None:
                ids.append(following)
            last, at_start = following, False
        return ids

    def _detect_prefix_space(self) -> tuple[list[int], bool, bool]:
        """The guard's ids; whether the tokenizer puts a space before a text, and before text after a special token."""
        alone, guard, both = self._tokenize(["x", GUARDS[0], GUARDS[0] + "x"])
        prefixes_text = both != guard + alone
        if not prefixes_text or not self._special_ids:
            return guard, prefixes_text, False
        (after,) = self._tokenize([next(iter(self._special_ids)) + "x"])
        return guard, True, after[1:] == alone

    # --- ids to conversations ---

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens left out."""
        return self._decode(ids, skip_special_tokens=True)

    def parse(self, ids: Sequence[int]) -> Conversation:
        """The messages of a rendered conversation or prompt, or of a prompt with what was sampled after it.

        A last turn without its end token is returned as far as it goes. Raises UserError for ids that do not begin as
        the template begins. The limits are those of `cameleer.core.parse`.
        """
        text: list[str] = []
        run: list[int] = []
        for token in [*ids, None]:
            symbol = None if token is None else self._grammar.symbols.get(token)
            if token is not None and symbol is None:
                run.append(token)
                continue
            text += [self._decode_run(run, self._prefixes_segments if text else self._prefixes_text), symbol or ""]
            run = []
        return self._grammar.parse("".join(text))

    @cached_property
    def _grammar(self) -> Grammar:
        return learn_grammar(self._layouts.literals_in_order, self._special_ids, self._special)

    def _decode_run(self, ids: list[int], prefixed: bool) -> str:
        """The text of ids between two special tokens, without the space that the tokenizer put before it."""
        if not ids:
            return ""
        # Decoders drop the space before a text's first word; with a word before, only the prefix is dropped.
        (guard,) = self._tokenize(["x"])
        text = self._decode([*guard, *ids])[len(self._decode(guard)) :]
        return text.removeprefix(" ") if prefixed else text

    def _decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        options = {"skip_special_tokens": skip_special_tokens, "clean_up_tokenization_spaces": False}
        return self.tokenizer.decode(list(ids), **options)


def fingerprint(tokenizer: ChatTokenizer) -> str:
    """SHA-256 over the chat template and the special tokens by name; padding is no part of what is rendered."""
    named = {name: str(token) for name, token in sorted(tokenizer.special_tokens_map.items()) if name != "pad_token"}
    identity = json.dumps([tokenizer.chat_template, named], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()


def check_roles(roles: Roles) -> None:
    """Raise a UserError for a role that is none of `ROLES`."""
    for turn, role in enumerate(roles, 1):
        if role not in ROLES:
            raise UserError(
                f"Turn {turn} has the role {role!r}; roles are {', '.join(ROLES)}.{did_you_mean(role, ROLES)}"
            )


def assistant_turns(roles: Roles) -> list[int]:
    """The indices of the assistant's turns."""
    return [turn for turn, role in enumerate(roles) if role == "assistant"]


def fill(parts: Sequence[str | int], contents: Sequence[str]) -> str:
    """The text of a piece."""
    return "".join(part if isinstance(part, str) else contents[part] for part in parts)


def first_change(plan: Sequence[Piece], contents: Sequence[str], real: str) -> str:
    """In words, the first turn whose content the template's real text does not hold where it should."""
    place = 0
    for part in (part for piece in plan for part in piece.parts):
        expected = part if isinstance(part, str) else contents[part]
        found = real[place : place + len(expected)]
        if found != expected:
            where = "around its turns" if isinstance(part, str) else f"turn {part + 1}"
            return f"{where} reads {found[:60]!r} for {expected[:60]!r}"
        place += len(expected)
    return f"it adds {real[place:][:60]!r}"


def split_at_specials(
    parts: Sequence[str | int], contents: Sequence[str], special: re.Pattern[str]
) -> Iterator[tuple[str, str | None]]:
    """Cut a piece at the special tokens that its literals spell: texts, each with the token after it or None."""
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += contents[part]
            continue
        place = 0
        for match in special.finditer(part):
            yield text + part[place : match.start()], match.group()
            text, place = "", match.end()
        text += part[place:]
    yield text, None
