"""Value models: one number for the state before each target, whatever the layout, from a reward model or from zeros."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from cameleer.model.load import load_model, save_model
from cameleer.model.reward import RewardModel, load_reward_model, new_reward_model
from cameleer.model.tiny import KINDS, TinyKind, tiny_model, tiny_tokenizer
from cameleer.model.value import ValueModel, new_value_model
from cameleer.train.layout import Batch, Segment, Tree, collate

PROMPT = [7, 8, 9]
ANSWERS = [[20, 21, 22, 23], [30], [40, 41]]


def batch_of(weights: float = 1.0) -> Batch:
    """A prompt with three answers, all of whose tokens are targets."""
    tree: Tree = (
        Segment(np.asarray(PROMPT, np.int32), np.zeros(3, np.float32)),
        *(Segment(np.asarray(ids, np.int32), np.full(len(ids), weights, np.float32), 0) for ids in ANSWERS),
    )
    return collate([tree])


def saved_reward_model(folder: Path, kind: TinyKind = "qwen3") -> Path:
    save_model(tiny_model(kind), tiny_tokenizer(), folder / "policy")
    save_model(new_reward_model(folder / "policy", seed=3), tiny_tokenizer(), folder / "reward")
    return folder / "reward"


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_a_plain_classifiers_scores_one_token_before(tmp_path: Path, kind: TinyKind) -> None:
    """Plain transformers reads each prefix of each answer by itself: its score is the value of the state after it."""
    folder = saved_reward_model(tmp_path, kind)
    plain = AutoModelForSequenceClassification.from_pretrained(folder)
    plain.config.pad_token_id = None
    with torch.inference_mode():
        values = ValueModel(load_reward_model(folder))(batch_of())
        prefixes = [PROMPT + ids[:length] for ids in ANSWERS for length in range(len(ids))]
        theirs = [plain(input_ids=torch.tensor([prefix])).logits.item() for prefix in prefixes]
    assert values.tolist() == pytest.approx(theirs, abs=1e-5)
    assert values.std() > 0.1


def test_answers_to_a_prompt_start_in_the_same_state(tmp_path: Path) -> None:
    batch = batch_of()
    with torch.inference_mode():
        values = ValueModel(load_reward_model(saved_reward_model(tmp_path)))(batch)
    starts = [0, len(ANSWERS[0]), len(ANSWERS[0]) + len(ANSWERS[1])]
    assert values[starts].tolist() == pytest.approx([values[0].item()] * 3, abs=1e-6)


def test_a_reward_models_score_is_the_value_after_the_last_token(tmp_path: Path) -> None:
    """The value of the state that one more token would start from."""
    model = load_reward_model(saved_reward_model(tmp_path))
    longer: Tree = (
        Segment(np.asarray(PROMPT, np.int32), np.zeros(3, np.float32)),
        *(Segment(np.asarray([*ids, 5], np.int32), np.eye(len(ids) + 1, dtype=np.float32)[-1], 0) for ids in ANSWERS),
    )
    ends: Tree = (
        longer[0],
        *(Segment(np.asarray(ids, np.int32), np.eye(len(ids), dtype=np.float32)[-1], 0) for ids in ANSWERS),
    )
    with torch.inference_mode():
        values, scores = ValueModel(model)(collate([longer])), RewardModel(model)(collate([ends]))
    torch.testing.assert_close(values, scores, rtol=0, atol=1e-5)


def test_from_a_policy_all_values_start_at_zero_and_the_head_learns(tmp_path: Path) -> None:
    save_model(tiny_model("llama"), tiny_tokenizer(), tmp_path)
    model = ValueModel(new_value_model(tmp_path))
    values = model(batch_of())
    assert values.tolist() == [0.0] * 7
    decoder = load_model(tmp_path).base_model.state_dict()
    assert all(torch.equal(weight, decoder[name]) for name, weight in model.model.base_model.state_dict().items())
    (values - 1).square().sum().backward()
    assert model.head_weight.grad is not None and model.head_weight.grad.abs().max() > 0


def test_values_of_a_model_in_bf16_are_fp32(tmp_path: Path) -> None:
    model = ValueModel(load_reward_model(saved_reward_model(tmp_path), torch.bfloat16))
    assert model(batch_of()).dtype == torch.float32
