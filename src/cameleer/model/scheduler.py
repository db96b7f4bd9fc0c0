"""Continuous batching: which tokens of which sequences each forward pass computes.

A `Session` answers one list of prompts. In every step each running sequence is continued by one token, and pieces of
waiting prompts fill the step up to `PREFILL_TOKENS`; a sequence that ends makes room for the next one at once. What all
prompts begin with, and a prompt that several samples share, is computed once and kept once.

When memory for keys and values runs out, the row that was taken up last gives up its place and its keys; it is taken up
again later, with the tokens that it has, which are then computed as a prompt. The same happens to all when the weights
change. Tokens and random numbers do not depend on any of this.
"""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from random import Random

import torch
from torch import Tensor
from torch.nn import functional

from cameleer.core.errors import UserError
from cameleer.model.kv_cache import Memory, Store, capacity_for
from cameleer.model.policy import Policy
from cameleer.model.products import PackedProducts
from cameleer.model.rows import FinishReason, Plan, Row, Shared
from cameleer.model.sampling import Sampling, choose, penalise

PREFILL_TOKENS = 512
"""Prompt tokens computed in one step beside the continued sequences, at most."""
MIN_SHARED_TOKENS = 16
"""A beginning that all prompts share is worth a run of its own from this length on."""
ROWS_PER_DRAW = 128
"""So many rows of logits are in memory at once."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled continuation; `ids` ends with the stop id, or what completes a stop text, if the reason is `stop`.

    `weight_version` is that of the weights which gave the last token.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason
    weight_version: int


@dataclass(frozen=True)
class Limits:
    """What a session may use, and where its completions end."""

    max_running: int
    memory_bytes: int
    stop_ids: frozenset[int]
    decode: Callable[[Sequence[int]], str] | None


class Session(Iterator[tuple[int, Completion]]):
    """Answers prompts; iterate over it for (index, completion) as they finish."""

    def __init__(
        self,
        policy: Policy,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        names: Sequence[str] | None,
        limits: Limits,
        weight_version: Callable[[], int],
    ) -> None:
        """`weight_version` tells the version of the policy's weights at any time."""
        self._policy, self._sampling, self._limits = policy, sampling, limits
        self._current_version, self._version = weight_version, weight_version()
        self._memory = Memory(limits.memory_bytes // bytes_per_token(policy))
        self._stores = {kind: Store(self._memory) for kind in ("beginning", "prompt", "own")}
        self._rows = self._make_rows(prompts, names or [str(index) for index in range(len(prompts))])
        self._refuse_too_large()
        # Longest first: too little memory shows at the start.
        self._waiting = deque(sorted(self._rows, key=lambda row: (-len(row.prompt), row.index)))
        self._running: list[Row] = []
        self._finished: deque[Row] = deque()
        self._products = PackedProducts(policy.head_weight.device)
        seconds = sampling.deadline_seconds
        self._deadline = math.inf if seconds is None else time.monotonic() + seconds

    # --- what callers use ---

    def __next__(self) -> tuple[int, Completion]:
        while not self._finished:
            if not self.num_unfinished:
                raise StopIteration
            self.step()
        row = self._finished.popleft()
        assert row.finish_reason is not None
        return row.index, Completion(tuple(row.ids), tuple(row.logprobs), row.finish_reason, row.weight_version)

    def tokens(self, index: int) -> Iterator[int]:
        """The ids of one completion as they are sampled."""
        row, given = self._rows[index], 0
        while True:
            yield from row.ids[given:]
            given = len(row.ids)
            if row.finish_reason is not None:
                return
            self.step()

    def tokens_so_far(self, index: int) -> tuple[int, ...]:
        """The ids that a completion has by now."""
        return tuple(self._rows[index].ids)

    @torch.inference_mode()
    def abort(self, index: int) -> None:
        """End a completion where it stands, to be handed out as `aborted`; a finished one stays as it is."""
        if self._rows[index].finish_reason is None:
            self._end(self._rows[index], FinishReason.ABORTED)

    @property
    def num_unfinished(self) -> int:
        return len(self._running) + len(self._waiting)

    @property
    def num_reserved_tokens(self) -> int:
        """The tokens that the slots for keys and values have room for."""
        return self._memory.reserved

    @torch.inference_mode()
    def step(self) -> None:
        """One forward pass: every running row gets a token, and waiting prompts come nearer to their first."""
        if self._current_version() != self._version:
            self._forget_all()
        if time.monotonic() > self._deadline:
            for row in [*self._running, *self._waiting]:
                self._end(row, FinishReason.DEADLINE)
            return
        self._admit()
        plan = self._plan()
        if plan.ids:
            hidden_TD = self._forward(plan)
            for shared, place in plan.completed:
                shared.last_hidden = hidden_TD[place].clone()
            self._sample([row for row, _ in plan.sampled], hidden_TD[[place for _, place in plan.sampled]])
        self._sample_first()

    # --- who runs ---

    def _make_rows(self, prompts: Sequence[Sequence[int]], names: Sequence[str]) -> list[Row]:
        """A row for each prompt; beginnings that all have, and prompts that stand more than once, as shared runs."""
        given = [tuple(prompt) for prompt in prompts]
        counts = Counter(given)
        begun = _shared_length(list(counts))
        beginning = Shared(store=self._stores["beginning"], ids=given[0][:begun]) if begun else None
        repeated = {
            prompt: Shared(start=begun, store=self._stores["prompt"], ids=prompt[begun:])
            for prompt, count in counts.items()
            if count > 1
        }
        rows: list[Row] = []
        for index, (prompt, name) in enumerate(zip(given, names, strict=True)):
            shared = tuple(run for run in (beginning, repeated.get(prompt)) if run is not None)
            for run in shared:
                run.users += 1
            num_shared = sum(len(run.ids) for run in shared)
            draws = Random(f"{self._sampling.seed}/{name}")
            rows.append(
                Row(start=num_shared, index=index, prompt=prompt, own=prompt[num_shared:], shared=shared, draws=draws)
            )
        return rows

    def _refuse_too_large(self) -> None:
        """Raise a UserError for a row that the memory could not hold alone."""
        for row in self._rows:
            longest = len(row.own) + self._sampling.max_new_tokens
            needed = capacity_for(longest) + sum(capacity_for(len(run.ids)) for run in row.shared)
            if needed > self._memory.budget:
                raise UserError(
                    f"prompt {row.index} has {len(row.prompt)} tokens; with {self._sampling.max_new_tokens} new ones "
                    f"its keys and values need room for {needed} tokens, and the memory has room for "
                    f"{self._memory.budget}.",
                    "Give the generator more memory (memory_gib), lower max_new_tokens or shorten the prompt.",
                )

    def _admit(self) -> None:
        """Let waiting rows run while there is room for them."""
        while self._waiting and len(self._running) < self._limits.max_running:
            row = self._waiting[0]
            if not self._fits(row):
                self._reclaim(row)
                if not self._fits(row):
                    assert self._running, "a row that fits alone finds no room though nothing runs"
                    return
            self._running.append(self._waiting.popleft())

    def _fits(self, row: Row) -> bool:
        """Make room for a row and the runs before it, as far as it goes."""
        return all(shared.make_room() for shared in row.shared) and self._stores["own"].make_room(row, row.num_own + 1)

    def _reclaim(self, row: Row) -> None:
        """Free what nobody needs now: shared runs that neither a running row nor `row` continues, and empty slots."""
        needed = {shared for each in (*self._running, row) for shared in each.shared}
        for waiting in self._waiting:
            for shared in waiting.shared:
                if shared.cache is not None and shared not in needed:
                    shared.forget()
        for store in self._stores.values():
            store.trim()

    def _preempt(self, keep: Row) -> None:
        """Send the row that was taken up last back to waiting; `keep` only where it is the last one running.

        Even then it helps: moving to a larger slot needs room for both, being taken up again only for the larger.
        """
        row = next((row for row in reversed(self._running) if row is not keep), keep)
        self._running.remove(row)
        self._stores["own"].remove(row)
        self._waiting.appendleft(row)
        self._reclaim(keep)

    def _forget_all(self) -> None:
        """Drop all keys and values, which older weights have made; every row goes on from the tokens that it has."""
        self._version = self._current_version()
        self._products.forget()
        self._waiting.extendleft(reversed(self._running))
        self._running.clear()
        for row in self._waiting:
            self._stores["own"].remove(row)
            for shared in row.shared:
                shared.forget()

    def _end(self, row: Row, reason: FinishReason) -> None:
        row.finish_reason = reason
        if not row.ids:
            row.weight_version = self._version
        (self._running if row in self._running else self._waiting).remove(row)
        self._stores["own"].remove(row)
        for shared in row.shared:
            shared.users -= 1
            if not shared.users:
                shared.forget()
        self._finished.append(row)

    # --- what a step computes ---

    def _plan(self) -> Plan:
        """The tokens of the next pass: one for each row that is being continued, then pieces of prompts."""
        for row in list(self._running):
            if row.cache is not None and not self._stores["own"].make_room(row, row.num_own + 1):
                self._reclaim(row)
            while row.cache is not None and not self._stores["own"].make_room(row, row.num_own + 1):
                self._preempt(row)
        plan = Plan()
        continued = [row for row in self._running if row.is_reached and row.num_own - row.length == 1]
        plan.continued = sorted(continued, key=lambda row: (row.cache.capacity if row.cache else 0, row.slot))
        for row in plan.continued:
            plan.sampled.append((row, len(plan.ids)))
            plan.add(row, row.pending(1))
        most = len(plan.ids) + PREFILL_TOKENS
        for row in self._running:
            if len(plan.ids) < most:
                self._plan_prompt(plan, row, most)
        return plan

    def _plan_prompt(self, plan: Plan, row: Row, most: int) -> None:
        """Add to a plan what a row still needs before its next token, until the plan has `most` tokens."""
        for number, run in enumerate(row.shared):
            if not run.is_complete:
                plan.add_piece(row.shared[: number + 1], run.ids[run.length :][: most - len(plan.ids)])
                if not run.is_complete:
                    return
                plan.completed.append((run, len(plan.ids) - 1))
                if len(plan.ids) == most:
                    return
        if row.length < row.num_own:
            plan.add_piece((*row.shared, row), row.pending(most - len(plan.ids)))
            if row.length == row.num_own:
                plan.sampled.append((row, len(plan.ids) - 1))

    def _forward(self, plan: Plan) -> Tensor:
        """(T, D) hidden states of a plan's tokens; their keys and values are then kept."""
        device = self._policy.head_weight.device
        ids, positions = (torch.tensor([each], device=device) for each in (plan.ids, plan.positions))
        decoder = self._policy.causal_model.base_model
        with self._products.within(len(plan.continued)):
            output = decoder(input_ids=ids, position_ids=positions, cached=plan.step(device), use_cache=False)
        return output.last_hidden_state[0]

    def _sample_first(self) -> None:
        """Give rows that share their whole prompt their first token, from the hidden state that the prompt left."""
        rows = [row for row in self._running if not row.num_own and row.is_reached]
        hidden = [row.shared[-1].last_hidden for row in rows]
        if rows:
            self._sample(rows, torch.stack([each for each in hidden if each is not None]))

    def _sample(self, rows: Sequence[Row], hidden_BD: Tensor) -> None:
        """Give each row its next token."""
        for start in range(0, len(rows), ROWS_PER_DRAW):
            part = rows[start : start + ROWS_PER_DRAW]
            ids, logprobs = self.draw(part, hidden_BD[start : start + ROWS_PER_DRAW])
            for row, chosen, logprob in zip(part, ids, logprobs, strict=True):
                self._extend(row, chosen, logprob)

    def draw(self, rows: Sequence[Row], hidden_BD: Tensor) -> tuple[list[int], list[float]]:
        """The next token of each row and its log-probability, from the hidden states before it."""
        with self._products.within(len(rows)):
            logits_BV = functional.linear(hidden_BD, self._policy.head_weight)
        logits_BV = logits_BV.to(torch.promote_types(logits_BV.dtype, torch.float32))
        self._adjust(rows, logits_BV)
        uniforms = [row.draws.random() for row in rows] if self._sampling.temperature else []
        chosen_B, logprob_B = choose(logits_BV, self._sampling, uniforms)
        return chosen_B.tolist(), logprob_B.tolist()

    def _adjust(self, rows: Sequence[Row], logits_BV: Tensor) -> None:
        """Apply what depends on a row's own tokens, in place."""
        if self._sampling.repetition_penalty == 1 and not self._sampling.min_new_tokens:
            return
        for row, logits_V in zip(rows, logits_BV, strict=True):
            if self._sampling.repetition_penalty != 1:
                penalise(logits_V, [*row.prompt, *row.ids], self._sampling.repetition_penalty)
            if len(row.ids) < self._sampling.min_new_tokens:
                logits_V[list(self._limits.stop_ids)] = -math.inf

    def _extend(self, row: Row, chosen: int, logprob: float) -> None:
        """Record a sampled token and end the row where it ends."""
        if not math.isfinite(logprob):
            raise UserError(f"the model's logits after {len(row.prompt) + len(row.ids)} tokens are not finite.")
        row.ids.append(chosen)
        row.logprobs.append(logprob)
        row.weight_version = self._version
        enough = len(row.ids) >= self._sampling.min_new_tokens
        if chosen in self._limits.stop_ids or (enough and self._completes_stop_text(row.ids)):
            self._end(row, FinishReason.STOP)
        elif len(row.ids) == self._sampling.max_new_tokens:
            self._end(row, FinishReason.LENGTH)

    def _completes_stop_text(self, ids: list[int]) -> bool:
        """Whether a stop text stands at the end: one token more than it has bytes holds it and what precedes it."""
        stop, decode = self._sampling.stop, self._limits.decode
        if not stop or decode is None:
            return False
        tail = decode(ids[-1 - max(len(text.encode()) for text in stop) :])
        return any(text in tail for text in stop)


def _shared_length(prompts: Sequence[tuple[int, ...]]) -> int:
    """How many ids all of several prompts begin with, where that is worth it; each keeps at least one of its own."""
    if len(prompts) < 2:
        return 0
    common = len(commonprefix([min(prompts), max(prompts)]))
    length = min(common, min(map(len, prompts)) - 1)
    return length if length >= MIN_SHARED_TOKENS else 0


def bytes_per_token(policy: Policy) -> int:
    """What the keys and values of one token take."""
    config = policy.causal_model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * size * policy.head_weight.element_size()
