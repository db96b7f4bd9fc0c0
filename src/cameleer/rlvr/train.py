"""Reinforcement learning with verifiable rewards: the loop from problems and a model to a better model.

    for each step:  prompts -> answers -> verdicts -> rewards -> advantages -> passes x mini-batches -> next weights

With `max_staleness = 0` a step's answers are sampled on the weights that it trains. With 1 those of step s + 1 are
sampled before step s trains: always on the second-latest weights, in the same order on every machine, which is what an
asynchronous sampler gives when it is exactly as fast as the learner (Tülu 3 report, §6.3).

A run that was killed anywhere goes on from the newest checkpoint. Answers that later steps had already got are on disk
and are learned from again; what was sampled in part is sampled again, the same. So the end is the same to the bit.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedModel

from cameleer.core.artifact import CHECKPOINTS, METRICS, Outcome
from cameleer.core.errors import UserError
from cameleer.core.log import MetricsLog, Ticker, console, read_metrics, ticker
from cameleer.core.render import Renderer
from cameleer.core.stage import StageRun
from cameleer.model import attention
from cameleer.model.generate import Sampling
from cameleer.model.load import check_same_tokens, context_length, load_model, load_renderer, stored_dtype
from cameleer.model.policy import Policy
from cameleer.model.reward import load_reward_model
from cameleer.model.value import ValueModel, new_value_model
from cameleer.rlvr import metrics
from cameleer.rlvr.alarms import StepSigns, alarms_at
from cameleer.rlvr.config import KeptModel, RLVRConfig
from cameleer.rlvr.measure import (
    PASS_RATES,
    accuracy,
    greedy_answers,
    of_suitable_difficulty,
    pass_rates,
    sample_on_ranks,
)
from cameleer.rlvr.problems import Prompt, PromptOrder, as_prompts, hold_out, load_prompts, within
from cameleer.rlvr.rollouts import (
    FOLDER,
    HELD_OUT,
    Rollout,
    RolloutFiles,
    RolloutSource,
    Sampled,
    groups_of,
    has_variance,
    refuse_failed_verifiers,
    together,
)
from cameleer.rlvr.sampler import Sampler, sampling_mode
from cameleer.rlvr.update import Models, learn
from cameleer.tasks import find_task
from cameleer.train.distributed import World, current_world, on_ranks, sharded
from cameleer.train.interrupt import Interrupt
from cameleer.train.learner import Learner, compute_dtype, with_options
from cameleer.train.meter import memory_named
from cameleer.verify.pool import VerifierPool
from cameleer.verify.sandbox.run import announce_protections

SMALLER = (
    "Lower tokens_per_batch or sampling_batch_size, or set gradient_checkpointing = true; the run goes on from its "
    "last checkpoint."
)


@dataclass(frozen=True)
class Counts:
    """How many problems there were, and where they went."""

    problems: int
    too_long: int
    """Of the problems and of held-out tasks' items."""
    held_out: int
    unsuitable: int = 0
    unmeasured: int = 0
    """Of the unsuitable ones those whose verifier failed on every answer."""


@dataclass
class Setup:
    """All that the loop needs, built once."""

    config: RLVRConfig
    stage: StageRun
    renderer: Renderer
    models: Models
    sampler: Sampler
    source: RolloutSource
    files: RolloutFiles
    held_out_files: RolloutFiles
    prompts: list[Prompt]
    held_out: list[Prompt]
    order: PromptOrder
    num_steps: int
    longest_prompt: int
    counts: Counts
    log: MetricsLog | None = None
    history: list[StepSigns] = field(default_factory=list[StepSigns])
    alarms: dict[str, str] = field(default_factory=dict[str, str])
    accuracies: dict[int, float | None] = field(default_factory=dict[int, float | None])
    """Held-out accuracy by the number of steps done; None where a task had no verdict."""

    @property
    def world(self) -> World:
        return self.models.world

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.config.max_new_tokens, self.config.temperature, seed=self.stage.seed)


def run(config: RLVRConfig, stage: StageRun) -> Outcome:
    """The stage's entry: trains on the ranks of this launch, or starts `num_ranks` of its own."""
    return on_ranks(config.num_ranks, train, config, stage)


def train(config: RLVRConfig, stage: StageRun) -> Outcome:
    """Train on this rank and, on rank 0, leave the model and all rollouts in the stage's folder."""
    with VerifierPool(deadline_seconds=config.deadline_seconds) as pool, memory_named(stage.name, SMALLER):
        setup = prepare(config, stage, current_world(), pool)
        learner = setup.models.policy
        first = begin(setup)
        with Interrupt() as interrupt, ticker("rlvr", setup.num_steps, done=first, shown=setup.world.leads) as progress:
            started = time.monotonic()
            for step, sampled in enumerate(rollouts_in_order(setup, first), start=first):
                update = learn(config, setup.models, step, setup.num_steps, sampled.rollouts)
                setup.sampler.follow(step + 1)
                save_rollouts(setup, step, update.rollouts)
                line = {
                    "step": step + 1,
                    "epoch": (sampled.rollouts[-1].place + 1) / setup.order.num_prompts,
                    **metrics.of_rollouts(sampled.rollouts, step),
                    **metrics.of_update(update),
                    **metrics.of_times(sampled, update),
                    "seconds": time.monotonic() - started,
                }
                watch(setup, line)
                if (step + 1) % config.held_out.every == 0 or step + 1 == setup.num_steps:
                    measure(setup, step + 1)
                note(progress, line)
                learner.checkpoint_if_due(step + 1, setup.num_steps, interrupt)
                started = time.monotonic()
        kept = choose(setup)
        learner.export(setup.renderer, stored_dtype(stage.inputs["model"]))
    return outcome(setup, kept)


# --- before the first step ---


def prepare(config: RLVRConfig, stage: StageRun, world: World, pool: VerifierPool) -> Setup:
    """Load, render and build; raises UserError for whatever the recipe or the data has wrong."""
    renderer = load_renderer(stage.inputs["model"], stage.chat_template)
    for role, what in (("reference", "reference"), ("value_model", "value model")):
        folder = stage.inputs.get(role)
        if folder not in (None, stage.inputs["model"]):
            check_same_tokens(renderer, folder, stage.chat_template, what, stage.inputs["model"])
    every = load_prompts(stage.inputs["problems"], renderer)
    if any(prompt.problem.verifier == "code" for prompt in every):
        announce_protections()
    longest = longest_prompt(config, stage)
    usable = within(every, longest)
    num_too_long = len(every) - len(usable)
    trained, held_out = hold_out(usable, config.held_out.num_problems, stage.seed)
    for name in config.held_out.tasks:
        problems = find_task(name).problems(config.held_out.num_items, stage.seed)
        items = within(as_prompts(problems, renderer, f"held_out: {name}"), longest)
        num_too_long += len(problems) - len(items)
        held_out += items
    counts = Counts(len(every), num_too_long, len(held_out))
    refuse_empty(stage, len(trained), counts, longest)
    order = PromptOrder(trained, config.task_weights, stage.seed)
    models = build_models(config, stage, world)
    sampler = Sampler(config, models.policy, renderer)
    source = RolloutSource(sampler.generator, pool, renderer, config.reward)
    files = RolloutFiles(stage.folder / FOLDER)
    suitable = trained
    if config.difficulty is not None:
        sampling = Sampling(config.max_new_tokens, config.temperature, seed=stage.seed)
        with sampling_mode(models.policy.model):
            begun = files.read(0) is not None
            file = stage.folder / PASS_RATES
            rates = pass_rates(source, world, trained, config.difficulty, sampling, file, retry=not begun)
        chosen = of_suitable_difficulty(rates, config.difficulty)
        suitable = [trained[row] for row in chosen]
        counts = replace(counts, unsuitable=len(trained) - len(suitable), unmeasured=rates.count(None))
        refuse_empty(stage, len(suitable), counts, longest)
        ranks = [-(rates[row] or 0.0) for row in chosen] if config.difficulty.easy_first else None
        order = PromptOrder(suitable, config.task_weights, stage.seed, ranks)
    steps = -(-order.num_prompts * config.num_epochs // config.prompts_per_step)
    return Setup(
        config=config,
        stage=stage,
        renderer=renderer,
        models=models,
        sampler=sampler,
        source=source,
        files=files,
        held_out_files=RolloutFiles(stage.folder / HELD_OUT, first=0),
        prompts=suitable,
        held_out=held_out,
        order=order,
        num_steps=config.num_steps or steps,
        longest_prompt=longest,
        counts=counts,
    )


def longest_prompt(config: RLVRConfig, stage: StageRun) -> int:
    """The most tokens of a prompt: as the recipe says, and so that the longest answer still fits every context."""
    roles = [role for role in ("model", "reference", "value_model") if role in stage.inputs]
    contexts = [context_length(AutoConfig.from_pretrained(stage.inputs[role])) for role in roles]
    rooms = [context - config.max_new_tokens for context in contexts if context is not None]
    return min(config.max_prompt_tokens, *rooms)


def refuse_empty(stage: StageRun, num_left: int, counts: Counts, longest: int) -> None:
    """Raise a UserError that says where all problems went."""
    if num_left == 0:
        raise UserError(
            f"{stage.inputs['problems']}: no problems to train on: of {counts.problems}, {counts.too_long} have more "
            f"than {longest} tokens (max_prompt_tokens, and what the context leaves beside max_new_tokens), "
            f"{counts.unsuitable} are not of the wanted difficulty, {counts.unmeasured} of them for want of a verdict; "
            "the others are held out.",
            "Raise max_prompt_tokens, lower max_new_tokens, hold out fewer, widen difficulty.pass_rate or mend the "
            "verifier.",
        )


def build_models(config: RLVRConfig, stage: StageRun, world: World) -> Models:
    """The policy in training; the frozen reference and the value model in training where the config asks for them."""

    def tempered(model: PreTrainedModel) -> Policy:
        return Policy(model, config.temperature, config.objective.entropy_coefficient > 0)

    def build(device: torch.device) -> PreTrainedModel:
        model = load_model(stage.inputs["model"], torch.float32, device, attention=attention.NAME)
        return with_options(model, config, stage.seed)

    policy = Learner(config, stage, world, build, tempered)
    reference = None
    if config.uses_reference:
        dtype = compute_dtype(config, world)

        def frozen(device: torch.device) -> Policy:
            model = load_model(stage.inputs["reference"], dtype, device, attention=attention.NAME)
            return Policy(model, config.temperature).requires_grad_(False)

        reference = sharded(frozen, world, dtype).eval()
    if config.uses_values:
        policy.companion = value_learner(config, stage, world)
    return Models(world, policy, reference, policy.companion)


def value_learner(config: RLVRConfig, stage: StageRun, world: World) -> Learner[ValueModel]:
    """The learner of the value model: from a reward model, or from the policy with a head of zeros."""
    settings = config.model_copy(
        update={"learning_rate": config.value_learning_rate or config.learning_rate, "lora": None}
    )

    def build(device: torch.device) -> PreTrainedModel:
        folder = stage.inputs.get("value_model")
        if folder is None:
            model = new_value_model(stage.inputs["model"], device)
        else:
            model = load_reward_model(folder, torch.float32, device)
        return with_options(model, settings, stage.seed)

    return Learner(settings, stage, world, build, ValueModel)


def begin(setup: Setup) -> int:
    """Go on from what there is; the number of steps done. A run that begins is measured first."""
    learner, world = setup.models.policy, setup.world
    first = learner.resume()
    setup.sampler.follow(first)
    file = setup.stage.folder / METRICS
    if world.leads:
        setup.log = MetricsLog(file, last_step=first)
    for line in world.broadcast(read_metrics(file) if world.leads else None):
        if "held_out" in line:
            setup.accuracies[line["step"]] = line["held_out"]
        else:
            setup.history.append(metrics.signs(line, setup.config.reward))
        setup.alarms |= {kind: f"step {line['step']}: {words}" for kind, words in line.get("alarms", {}).items()}
    if world.leads:
        say_start(setup, first)
    if 0 not in setup.accuracies:
        assert first == 0 or not setup.held_out, f"step {first} without a measurement before it"
        measure(setup, 0)
    return first


def say_start(setup: Setup, first: int) -> None:
    """What is about to be trained, in one line; and what was left out."""
    config, counts = setup.config, setup.counts
    start = f", from step {first}" if first else ""
    console.print(
        f"  {len(setup.prompts):,} problems, {setup.num_steps} steps of {config.prompts_per_step} prompts × "
        f"{config.samples_per_prompt} answers, {config.objective.objective} on {setup.world.size} rank(s){start}"
    )
    if counts.too_long:
        console.print(f"  prompts of more than {setup.longest_prompt} tokens: {counts.too_long} left out")
    if config.difficulty is not None:
        within_range = f"  pass rate not within {list(config.difficulty.pass_rate)}: {counts.unsuitable} left out"
        console.print(f"{within_range}, {counts.unmeasured} of them without a verdict", markup=False)
    if not setup.held_out:
        console.print("  nothing is held out (held_out.num_problems, .tasks): no alarm can tell reward from skill")


# --- rollouts of a step ---


def rollouts_in_order(setup: Setup, first: int) -> Iterator[Sampled]:
    """Each step's rollouts as it begins, with what was sampled since the step before; sampled when they are asked for.

    With a staleness of 1 a step's rollouts come after those of the next, so that these are of weights without it.
    """
    staleness, ahead = setup.config.max_staleness, None
    for step in range(first, setup.num_steps):
        # With a staleness of 1 the weights that sample a step's answers are gone when it begins: the first is on disk.
        now = ahead or rollouts_for(setup, step, done=max(0, step - staleness))
        new = [] if ahead else [now]
        ahead = None
        if staleness and step + 1 < setup.num_steps:
            ahead = rollouts_for(setup, step + 1, done=step, after=now.rollouts)
            new.append(ahead)
        yield together(now.rollouts, new)


def rollouts_for(setup: Setup, step: int, done: int, after: Sequence[Rollout] | None = None) -> Sampled:
    """The rollouts of a step: those on disk, else sampled on the weights after `done` steps.

    `after` are the rollouts of the step before, whose places they follow; None: they are on disk, or step is the first.
    """
    stored = setup.files.read(step)
    setup.world.barrier()
    if stored is not None:
        return Sampled(stored)
    if setup.sampler.generator.weight_version != done:
        raise UserError(
            f"{setup.files.folder}: the rollouts of step {step + 1} are gone, and the weights that sampled them too.",
            f"Delete {setup.stage.folder / CHECKPOINTS} to train this stage anew.",
        )
    first_place = 0
    if step > 0:
        before = after if after is not None else setup.files.read(step - 1)
        if before is None:
            raise UserError(
                f"{setup.files.folder}: the rollouts of step {step} are gone: which prompts come next is not known.",
                f"Delete {setup.stage.folder / CHECKPOINTS} to train this stage anew.",
            )
        first_place = max(rollout.place for rollout in before) + 1
    sampled = sample(setup, first_place)
    refuse_failed_verifiers(f"step {step + 1}", sampled.rollouts)
    save_rollouts(setup, step, sampled.rollouts)
    return sampled


def save_rollouts(setup: Setup, step: int, rollouts: Sequence[Rollout]) -> None:
    if setup.world.leads:
        setup.files.write(step, rollouts)
    setup.world.barrier()


def sample(setup: Setup, first_place: int) -> Sampled:
    """Answers to the next prompts. With dynamic sampling, those without variance are replaced within `max_refills`."""
    config = setup.config
    parts: list[Sampled] = []
    groups: list[list[Rollout]] = []
    wanted, place = config.prompts_per_step, first_place
    for _ in range(1 + config.max_refills):
        asked = [(each, setup.prompts[setup.order.row(each)]) for each in range(place, place + wanted)]
        parts.append(sampled_from(setup, asked))
        groups += groups_of(parts[-1].rollouts)
        place += wanted
        wanted = config.prompts_per_step - sum(map(has_variance, groups))
        if wanted <= 0:
            break
    return together([rollout for group in groups for rollout in group], parts)


def sampled_from(setup: Setup, asked: Sequence[tuple[int, Prompt]]) -> Sampled:
    with sampling_mode(setup.models.policy.model):
        return sample_on_ranks(setup.source, setup.world, asked, setup.config.samples_per_prompt, setup.sampling)


# --- what is watched ---


def watch(setup: Setup, line: dict[str, Any]) -> None:
    """Raise the alarms of a step and log it."""
    setup.history.append(metrics.signs(line, setup.config.reward))
    line |= alarms(setup)
    if setup.log is not None:
        setup.log.write(**line)


def alarms(setup: Setup, held_out: tuple[float, float] | None = None) -> dict[str, Any]:
    """Say which alarms are new, and return them for the line that raised them."""
    new = alarms_at(setup.history, setup.config.alarms, setup.alarms, held_out)
    for alarm in new:
        setup.alarms[alarm.kind.value] = f"step {alarm.step}: {alarm.message}"
        if setup.world.leads:
            console.print(f"[yellow]alarm at step {alarm.step}: {alarm.message}[/]")
    return {"alarms": {alarm.kind.value: alarm.message for alarm in new}} if new else {}


def measure(setup: Setup, done: int) -> None:
    """Log the accuracy of held-out problems after `done` steps, with its alarm; keep the weights if it is the best."""
    if not setup.held_out:
        return
    started = time.monotonic()
    found = accuracy(held_out_answers(setup, done))
    known = [each for each in setup.accuracies.values() if each is not None]
    better = found.mean is not None and found.mean > max(known, default=-1.0)
    if setup.config.held_out.keep is KeptModel.BEST and (done == 0 or better):
        setup.models.policy.keep(done)
    setup.accuracies[done] = found.mean
    before = setup.accuracies[0]
    raised = {} if before is None or found.mean is None else alarms(setup, (before, found.mean))
    if setup.log is not None:
        setup.log.write(step=done, **found.line(), **raised, seconds=time.monotonic() - started)
        said = "not known: a task has no verdict" if found.mean is None else f"{found.mean:.3f}"
        console.print(f"  step {done}: held-out accuracy {said}")


def held_out_answers(setup: Setup, done: int) -> list[Rollout]:
    """Greedy answers to what is held out after `done` steps. Those on disk are taken from there, verdicts included: a
    run that goes on decides as it did."""
    stored = setup.held_out_files.read(done)
    setup.world.barrier()
    if stored is None:
        with sampling_mode(setup.models.policy.model):
            stored = greedy_answers(setup.source, setup.world, setup.held_out, setup.config.max_new_tokens)
        if done == 0:
            # What all later measurements are compared with.
            for task in sorted({answer.task for answer in stored}):
                own = [answer for answer in stored if answer.task == task]
                refuse_failed_verifiers(f"held-out {task}", own)
        if setup.world.leads:
            setup.held_out_files.write(done, stored)
        setup.world.barrier()
    return stored


def note(progress: Ticker, line: dict[str, Any]) -> None:
    judged = f"pass rate {line['pass_rate']:.3f}" if "pass_rate" in line else "no verdicts"
    progress.advance(note=f"{judged}  {line['answer_tokens']:.0f} tokens an answer")


# --- after the last step ---


def choose(setup: Setup) -> int:
    """Take back the weights with the best held-out accuracy, if those are asked for; the steps they have learned."""
    if not setup.held_out or setup.config.held_out.keep is KeptModel.LAST:
        return setup.num_steps
    if all(found is None for done, found in setup.accuracies.items() if done > 0):
        if setup.world.leads:
            console.print("  saving the last weights: no held-out accuracy is known, since a task has no verdict")
        return setup.num_steps
    kept = setup.models.policy.restore()
    if setup.world.leads and kept != setup.num_steps:
        console.print(f"  saving the weights after step {kept}, which have the best held-out accuracy")
    return kept


def outcome(setup: Setup, kept: int) -> Outcome:
    counts = setup.counts
    summary: dict[str, Any] = {"kept_step": kept, "alarms": setup.alarms}
    if setup.accuracies:
        summary |= {"held_out_start": setup.accuracies[0], "held_out": setup.accuracies[kept]}
    return Outcome(
        counts={
            "problems": counts.problems,
            "train_problems": len(setup.prompts),
            "held_out_problems": counts.held_out,
            "too_long": counts.too_long,
            "unsuitable": counts.unsuitable,
            "unmeasured": counts.unmeasured,
            "steps": setup.num_steps,
            "ranks": setup.world.size,
        },
        summary=summary,
        template_fingerprint=setup.renderer.fingerprint,
    )
