"""Precise instructions: wrong answers break what they should, golds are real text, dev stays apart from train."""

from collections import Counter
from functools import cache

import pytest

from cameleer.core.types import Problem
from cameleer.tasks import SealedReader, find_task
from cameleer.tasks.precise_if import MAX_GOLD_WORDS, MIN_GOLD_WORDS, wrong_answer
from cameleer.tasks.precise_if_families import (
    HELD_OUT_FAMILIES,
    TRAINED_FAMILIES,
    InstructionFamily,
    compatible,
    compatible_pairs,
)
from cameleer.tasks.precise_if_topics import REQUESTS, TOPICS
from cameleer.verify import verify
from cameleer.verify.constraints import CONSTRAINTS, words

NAMES = ("precise-if", "precise-if-dev", "precise-if-unseen")


@cache
def problems_of(name: str) -> list[Problem]:
    return find_task(name, SealedReader.EVALS).problems(1_000, seed=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_answer_breaks_the_first_constraint(name: str) -> None:
    for problem in problems_of(name):
        results = verify(wrong_answer(problem), "constraints", problem.target).detail["constraints"]
        assert not results[0]["holds"], (problem, wrong_answer(problem))


@pytest.mark.parametrize("name", NAMES)
def test_golds_are_short(name: str) -> None:
    lengths = [len(words(problem.gold)) for problem in problems_of(name)]
    assert min(lengths) >= MIN_GOLD_WORDS and max(lengths) <= MAX_GOLD_WORDS


@pytest.mark.parametrize("name", NAMES)
def test_golds_are_about_their_topic(name: str) -> None:
    topics = {topic.name: topic for topic in TOPICS}
    for problem in problems_of(name):
        sentences = topics[problem.metadata["topic"]].sentences
        letters = "".join(filter(str.isalpha, problem.gold)).lower()
        assert any("".join(filter(str.isalpha, sentence)).lower() in letters for sentence in sentences), problem


@pytest.mark.parametrize("name", NAMES)
def test_no_placeholder_of_a_wording_is_left(name: str) -> None:
    for problem in problems_of(name):
        for message in problem.messages:
            if message.role != "assistant":
                assert "{count" not in message.content and "{words" not in message.content, message
                assert " 1 words" not in message.content and " 1 times" not in message.content, message


def test_there_is_no_dev_pairing_of_topic_and_instructions_in_train() -> None:
    train, dev = (
        {(problem.metadata["topic"], tuple(sorted(problem.metadata["families"]))) for problem in problems_of(name)}
        for name in NAMES[:2]
    )
    assert len(dev) > 300
    assert not train & dev


def test_no_prompt_of_dev_stands_earlier_in_a_train_conversation() -> None:
    def prompts(name: str) -> set[str]:
        forms = {"single": 0, "system": 1, "second question": 0}
        return {
            problem.messages[forms[problem.metadata["form"]]].content
            for problem in problems_of(name)
            if problem.metadata["form"] in forms
        }

    assert not prompts(NAMES[0]) & prompts(NAMES[1])


def test_families_are_many_and_all_are_used() -> None:
    assert len(TRAINED_FAMILIES) >= 14
    assert len(HELD_OUT_FAMILIES) >= 4
    for name, families in ((NAMES[0], TRAINED_FAMILIES), (NAMES[1], TRAINED_FAMILIES), (NAMES[2], HELD_OUT_FAMILIES)):
        used = Counter(family for problem in problems_of(name) for family in problem.metadata["families"])
        assert set(used) == {family.name for family in families}
        assert min(used.values()) > 0.015 * len(problems_of(name)), used
    trained = {family.constraint for family in TRAINED_FAMILIES}
    held_out = {family.constraint for family in HELD_OUT_FAMILIES}
    assert not trained & held_out
    assert trained | held_out <= set(CONSTRAINTS)


@pytest.mark.parametrize("family", (*TRAINED_FAMILIES, *HELD_OUT_FAMILIES), ids=lambda family: family.name)
def test_each_family_has_at_least_four_wordings(family: InstructionFamily) -> None:
    assert len(set(family.phrasings)) >= 4


def test_contradictions_are_not_compatible() -> None:
    families = {family.name: family for family in TRAINED_FAMILIES}
    for first, second in (
        ("lowercase", "uppercase"),
        ("lowercase", "capital words"),
        ("json", "bullets"),
        ("json", "no commas"),
        ("included words", "avoided words"),
        ("sentences", "bullets"),
        ("paragraphs", "title"),
        ("opening", "lowercase"),
    ):
        assert not compatible(families[first], families[second])
        assert not compatible(families[second], families[first])
    assert len(compatible_pairs(TRAINED_FAMILIES)) > 50
    assert len(compatible_pairs(HELD_OUT_FAMILIES)) >= 4


def test_both_one_and_two_instructions_occur() -> None:
    for name in NAMES:
        counts = Counter(len(problem.target["constraints"]) for problem in problems_of(name))
        assert set(counts) == {1, 2}
        assert min(counts.values()) > 0.3 * len(problems_of(name))


def test_topics_are_many_and_their_sentences_plain() -> None:
    assert len(TOPICS) == len({topic.name for topic in TOPICS}) >= 120
    assert {topic.kind for topic in TOPICS} == set(REQUESTS)
    sentences = [sentence for topic in TOPICS for sentence in topic.sentences]
    assert len(sentences) == len(set(sentences))
    for topic in TOPICS:
        assert len(topic.sentences) >= 4
        assert sum("," not in sentence for sentence in topic.sentences) >= 3, topic
        assert all(4 <= len(words(sentence)) <= 13 for sentence in topic.sentences), topic
        assert all(sentence.endswith(".") and sentence[0].isupper() for sentence in topic.sentences), topic
        plain = "".join((*topic.sentences, topic.title)).replace(",", "").replace(".", "").replace(" ", "")
        assert plain.isalpha() and plain.isascii() and "," not in topic.title, topic
