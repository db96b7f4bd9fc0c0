"""Sharded models: who reads weights, what arrives, and what a whole copy of them computes with."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from sharding_support import BUILDERS, Arrived, all_arrived, tensors

from cameleer.core.errors import UserError
from cameleer.core.stage import StageRun
from cameleer.core.training import LoraConfig
from cameleer.model.load import load_model, load_renderer, save_model
from cameleer.model.policy import Policy, SegmentModel
from cameleer.model.reward import new_reward_model
from cameleer.model.tiny import TinyKind, tiny_model, tiny_tokenizer
from cameleer.rlvr.config import RLVRConfig
from cameleer.rlvr.names import Objective, ObjectiveConfig
from cameleer.rlvr.sampler import Sampler
from cameleer.train.distributed import World, start_ranks
from cameleer.train.learner import Learner, with_options

CPU = torch.device("cpu")
TINY_KINDS: tuple[TinyKind, ...] = ("llama", "gemma3")


def test_rank_0_reads_the_weights_and_all_get_them(tmp_path: Path) -> None:
    """Tied matrices stay one, adapters and heads drawn at the start are rank 0's, buffers that no file has arrive."""
    folders = [tmp_path / "llama", tmp_path / "gemma3"]
    for folder, kind in zip(folders, TINY_KINDS, strict=True):
        save_model(tiny_model(kind), tiny_tokenizer(), folder)
        save_model(new_reward_model(folder, 1), tiny_tokenizer(), folder / "rm")
    found: list[Arrived] = start_ranks(2, all_arrived, folders)
    for arrived, (folder, kind) in zip(found, product(folders, BUILDERS), strict=True):
        assert arrived.built == ["cpu", "meta"], kind
        assert arrived.here == pytest.approx(arrived.every / 2, rel=0.02), kind
        expected = tensors(BUILDERS[kind](folder, CPU))
        for each in arrived.tensors:
            assert each.keys() == expected.keys(), kind
            assert all(torch.equal(each[name], value) for name, value in expected.items()), kind


def test_a_model_without_weights_generates_as_the_one_with_them(tmp_path: Path) -> None:
    """What is exported of sharded weights starts from it."""
    save_model(tiny_model(), tiny_tokenizer(), tmp_path)
    file = tmp_path / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "repetition_penalty": 1.3}))
    configs = [load_model(tmp_path, device=device).generation_config for device in ("cpu", "meta")]
    assert configs[0].to_dict() == configs[1].to_dict() and configs[1].repetition_penalty == 1.3


def test_two_matrices_that_the_config_ties_are_refused(tmp_path: Path) -> None:
    """In memory they would stay two, and the second be lost when the model is saved."""
    save_model(tiny_model("qwen2"), tiny_tokenizer(), tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "tie_word_embeddings": True}))
    with pytest.raises(UserError, match="its weights are two different ones"):
        load_model(tmp_path)


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=2)])
def test_a_copy_in_bf16_keeps_the_frequencies_of_positions(tmp_path: Path, lora: LoraConfig | None) -> None:
    """Rounded to bf16, a frequency of 0.316 is 0.05% off: at position 2,000 that is a third of a radian."""
    save_model(tiny_model(), tiny_tokenizer(), tmp_path / "model")
    renderer = load_renderer(tmp_path / "model", "auto")
    grpo = ObjectiveConfig(objective=Objective.GRPO)
    config = RLVRConfig(objective=grpo, samples_per_prompt=2, precision="bf16", lora=lora)
    stage = StageRun("rlvr", tmp_path, {}, "auto", seed=0)

    def build(device: torch.device) -> Any:
        return with_options(load_model(tmp_path / "model", torch.float32, device), config, 0)

    learner = Learner(config, stage, World(0, 1, CPU), build, Policy)
    sampler = Sampler(config, learner, renderer)
    expected = SegmentModel(with_options(load_model(tmp_path / "model", torch.bfloat16), config, 0))
    found = SegmentModel(sampler.generator.model)
    assert any("inv_freq" in name for name, _ in found.named_buffers())
    for name, value in expected.named_buffers():
        assert torch.equal(dict(found.named_buffers())[name], value), name
    assert all(each.dtype == torch.bfloat16 for each in found.parameters())
    for name, value in expected.named_parameters():
        assert torch.equal(dict(found.named_parameters())[name], value.bfloat16()), name
