"""The measure: what overlaps is what the definition says, whatever the way to it."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from overlap_reference import overlaps, tokens

from cameleer.core import rolling
from cameleer.core.words import words
from cameleer.curate import overlap
from cameleer.curate.config import MatchMode
from cameleer.curate.overlap import Index, Item, find_matches

QUESTION = "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May."
"""20 tokens."""


def item(*fields: str, id: str = "gsm8k/0") -> Item:
    return Item("gsm8k", id, fields)


def found(items: Sequence[Item], prompts: Sequence[Sequence[str]], **settings: object) -> dict[tuple[int, int], float]:
    index = Index(items, **settings)
    return {(match.row, match.item): match.share for match in find_matches(index, prompts)}


def share(prompt: Sequence[str], *fields: str) -> float:
    return found([item(*fields)], [prompt], threshold=1e-9).get((0, 0), 0.0)


def test_a_verbatim_copy_overlaps_wholly() -> None:
    assert share([f"Please solve this. {QUESTION} Thanks."], QUESTION) == 1


def test_case_and_punctuation_do_not_hide_a_copy() -> None:
    assert share([QUESTION.upper().replace(",", " -- ").replace(".", "!?")], QUESTION) == 1


def test_an_edited_number_costs_the_tokens_that_only_its_ngrams_cover() -> None:
    """Of 20 tokens the fifth is changed: the four before it stand in no whole 8-gram, the 15 after it do."""
    assert share([QUESTION.replace("48", "72")], QUESTION) == 15 / 20


def test_reordered_halves_of_eight_tokens_and_more_still_match() -> None:
    cut = QUESTION.split()
    assert share([" ".join(cut[10:] + cut[:10])], QUESTION) == 1


def test_words_in_another_order_do_not_match() -> None:
    cut = QUESTION.split()
    assert share([" ".join(reversed(cut))], QUESTION) == 0


def test_exactly_half_does_not_overlap_and_one_token_more_does() -> None:
    cut = QUESTION.split()
    assert found([item(QUESTION)], [[" ".join(cut[:10])], [" ".join(cut[:11])]]) == {(1, 0): 11 / 20}


def test_ngrams_do_not_cross_from_one_turn_to_the_next() -> None:
    """Two turns with 7 tokens each hold no 8-gram; as one turn they hold all 14."""
    cut = QUESTION.split()
    assert share([" ".join(cut[:7]), " ".join(cut[7:14])], QUESTION) == 0
    assert share([" ".join(cut[:14])], QUESTION) == 14 / 20


def test_turns_of_one_conversation_count_together_and_two_conversations_do_not() -> None:
    cut = QUESTION.split()
    halves = [" ".join(cut[:10]), " ".join(cut[10:])]
    assert found([item(QUESTION)], [halves]) == {(0, 0): 1.0}
    assert found([item(QUESTION)], [[halves[0]], [halves[1]]]) == {}


def test_the_share_of_several_fields_is_the_mean_over_those_that_are_not_empty() -> None:
    passage = "The quick brown fox jumps over the lazy dog near the river bank"
    assert share([passage], passage, QUESTION) == 0.5
    assert share([passage], passage, "", " . ") == 1
    assert found([item(passage, QUESTION)], [[passage], [passage, QUESTION]]) == {(1, 0): 1.0}


def test_a_field_that_an_item_has_twice_counts_twice() -> None:
    assert share([QUESTION], QUESTION, QUESTION, "one two three four five six seven eight") == pytest.approx(2 / 3)


def test_items_with_fewer_tokens_than_an_ngram_cannot_match_and_are_counted() -> None:
    index = Index([item("What is two plus two?"), item(QUESTION), item("", "")])
    assert list(find_matches(index, [["What is two plus two?"]])) == []
    assert index.num_too_short == {"gsm8k": 2}


def test_the_matched_text_is_what_matches() -> None:
    cut = QUESTION.split()
    [match] = find_matches(Index([item(QUESTION)]), [[" ".join(cut[:9]), " ".join(cut[11:])]])
    assert match.matched_text == " … ".join(" ".join(tokens(" ".join(part))) for part in (cut[:9], cut[11:]))


def test_a_full_string_counts_wherever_it_stands_and_however_short_it_is() -> None:
    items = [item("two plus two"), item(QUESTION), item("two plus three")]
    prompts = [["What is two, plus two?"], [f"Here: {QUESTION} Well?"], [QUESTION.replace("May", "June")], ["two plus"]]
    assert found(items, prompts, mode=MatchMode.FULL) == {(0, 0): 1.0, (1, 1): 1.0}
    assert Index(items, MatchMode.FULL).num_too_short == {}


def test_text_of_other_scripts_is_compared_in_lower_case_and_cut_at_its_own_white_space() -> None:
    text = "ΤΟ ΓΡΉΓΟΡΟ ΚΑΦΈ ΑΛΕΠΟΎ ΠΗΔΆ ΠΆΝΩ ΑΠΌ ΤΟ ΣΚΥΛΊ"
    assert share([text.lower().replace(" ", "\u3000\u00a0")], text) == 1


def test_tokens_that_end_texts_inside_cannot_be_forged() -> None:
    """A zero byte in a prompt is a separator like any other."""
    cut = QUESTION.split()
    assert share([" \0 ".join([" ".join(cut[:10]), " ".join(cut[10:])])], QUESTION) == 1


WORDS = st.sampled_from(["a", "b", "A", "b,", "c-d", "é", "İ", "\u00a0", "\0", "…", "x+1", ""])
TEXTS = st.lists(WORDS, max_size=14).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(
    fields=st.lists(st.lists(TEXTS, max_size=3), max_size=4),
    prompts=st.lists(st.lists(TEXTS, max_size=3), max_size=4),
    threshold=st.sampled_from([0.1, 0.5, 0.75]),
    full=st.booleans(),
)
def test_few_words_in_any_arrangement_overlap_as_defined(
    fields: list[list[str]], prompts: list[list[str]], threshold: float, full: bool
) -> None:
    items = [Item("task", str(i), tuple(texts)) for i, texts in enumerate(fields)]
    mode = MatchMode.FULL if full else MatchMode.NGRAM
    assert found(items, prompts, mode=mode, threshold=threshold, ngram_size=3) == pytest.approx(
        overlaps(items, prompts, threshold, 3, full)
    )


def planted(seed: int) -> tuple[list[Item], list[list[str]]]:
    """Items of a small vocabulary, and prompts of which many hold parts of items."""
    draw = random.Random(seed)
    vocabulary = [f"w{i}" for i in range(40)]
    texts = [" ".join(draw.choices(vocabulary, k=draw.randint(1, 60))) for _ in range(60)]
    items = [Item(f"t{i % 3}", str(i), tuple(draw.sample(texts, draw.choice([1, 1, 1, 2, 3])))) for i in range(80)]
    prompts: list[list[str]] = []
    for _ in range(150):
        source = draw.choice(items)
        cut = " ".join(draw.sample(source.fields, len(source.fields))).split()
        start = draw.randrange(len(cut))
        copied = cut[start : start + draw.randint(5, 80)]
        if draw.random() < 0.3:
            copied[draw.randrange(len(copied))] = "edited"
        prompts.append([" ".join(draw.choices(vocabulary, k=9)), " ".join(copied)][draw.choice([0, 1]) :])
    return items, prompts


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("full", [False, True])
def test_planted_copies_are_found_as_the_definition_finds_them(seed: int, full: bool) -> None:
    items, prompts = planted(seed)
    expected = overlaps(items, prompts, full=full)
    assert len(expected) > 20
    assert found(items, prompts, mode=MatchMode.FULL if full else MatchMode.NGRAM) == pytest.approx(expected)


def test_neither_blocks_nor_chunks_nor_processes_change_what_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    items, prompts = planted(7)
    index = Index(items)
    expected = list(find_matches(index, prompts))
    assert list(find_matches(index, prompts, num_processes=2)) == expected
    monkeypatch.setattr(overlap, "BLOCK_CHARACTERS", 50)
    monkeypatch.setattr(overlap, "MAX_POSTINGS", 3)
    assert list(find_matches(index, prompts)) == expected


def test_equal_hashes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every byte worth the same, n-grams of equal length have equal hashes: many collide, and none is believed."""
    items, prompts = planted(3)
    expected = found(items, prompts)
    monkeypatch.setattr(rolling, "_VALUES", rolling._VALUES[:1].repeat(256))
    assert found(items, prompts) == expected


def test_words_are_cut_where_the_published_analyzer_cuts() -> None:
    assert words('A-b, c.d? e! f: g; (h) "i"\n\\j x+y=2 don\'t') == (b"a b c d e f g h i j x+y=2 don't".split())
