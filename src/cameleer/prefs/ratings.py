"""Ratings: judges that score all answers to a prompt, each by its own method.

    verifier        the verdict's score, 0 or 1 for most; none for the outcomes `timeout` and `error`
    aspects         mean over the aspects of ratings from 1 to 5, all answers in one question
    pairwise        share won, ties half, over the comparisons with every other answer
    reward_model    the model's score

Each question is asked in the prompt's shuffled order, with `positions = "both"` in its reverse too, and an answer's
score is the mean over all questions about it. If one of these has no readable reply, the score is missing: it is no
default and in no mean. Replies are kept as they come (`CachedJudge`), and one that does not keep to the format is asked
for again with the reason, as a question of its own.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from queue import SimpleQueue
from typing import Any, Literal, Protocol

from cameleer.core.artifact import CHECKPOINTS, content_digest
from cameleer.core.digest import digest_json
from cameleer.core.errors import UserError
from cameleer.core.stage import StageRun
from cameleer.core.types import Conversation, Message, turns
from cameleer.model.endpoint import Endpoint
from cameleer.model.journal import Ledger
from cameleer.model.judge import CachedJudge, EndpointJudge, Judge, JudgeReply, JudgeRequest, LocalJudge
from cameleer.model.pool import FAILURES_IN_A_ROW, LEAVE_SECONDS, Answer, Outage, open_endpoint, template_of
from cameleer.prefs import rubric
from cameleer.prefs.config import Aspect, JudgeConfig, Method
from cameleer.prefs.pairs import Score, is_usable
from cameleer.prefs.prompts import Prompt
from cameleer.verify.pool import VerifierPool

REPLIES = "judge"
"""The folder of a judge's replies while the stage works."""
COMPARISON: Literal["comparison"] = "comparison"
PROMPTS_AT_ONCE = 1024
"""Prompts whose questions are in memory at a time."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A prompt with its answers, by place."""

    index: int
    prompt: Prompt
    answers: tuple[Answer, ...]

    @property
    def usable(self) -> tuple[int, ...]:
        """The places of answers that can be in a pair."""
        return tuple(place for place, answer in enumerate(self.answers) if is_usable(answer))

    def text(self, place: int) -> str:
        return str(self.answers[place].text)


@dataclass(frozen=True, slots=True)
class Shown:
    """Places in an order in which a judge saw them, and what it gave them, averaged over the aspects."""

    order: tuple[int, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """One judge's scores of the answers to a prompt, by place; `shown` is empty where order plays no part."""

    scores: tuple[Score, ...]
    shown: tuple[Shown, ...] = ()


Record = Callable[[dict[str, Any]], None]
"""Takes what a judge was shown and said, to be kept."""


class Rater(Protocol):
    """A judge. `waits` says that it works after all answers are there: it needs the memory or the processor."""

    name: str
    waits: bool

    def rates(self, prompt: Prompt) -> bool:
        """Whether it can rate answers to a prompt."""
        ...

    def rate(self, items: Sequence[Answered]) -> Iterator[tuple[int, Judged]]:
        """The judgements of prompts, with the prompt's index, as they are ready."""
        ...


@dataclass
class VerifierRater:
    """The problem's own verifier."""

    name: str
    pool: VerifierPool
    record: Record
    waits: bool = False

    def rates(self, prompt: Prompt) -> bool:
        return prompt.verifier is not None

    def rate(self, items: Sequence[Answered]) -> Iterator[tuple[int, Judged]]:
        asked = [(item, place) for item in items for place in item.usable]
        scores: dict[int, list[Score]] = {item.index: [None] * len(item.answers) for item in items}
        verdicts: dict[int, dict[int, Any]] = defaultdict(dict)
        left = {item.index: len(item.usable) for item in items}
        for number, verdict, _ in self.pool.verify_all(
            (item.text(place), str(item.prompt.verifier), item.prompt.target) for item, place in asked
        ):
            item, place = asked[number]
            scores[item.index][place] = verdict.score
            verdicts[item.index][place] = {"outcome": verdict.outcome.value, "detail": verdict.detail}
            left[item.index] -= 1
        for item in items:
            found = verdicts[item.index]
            self.record(
                {"prompt": item.prompt.key, "judge": self.name, "verdicts": [found[place] for place in sorted(found)]}
            )
            yield item.index, Judged(tuple(scores[item.index]))


@dataclass(frozen=True, slots=True)
class Question:
    """One thing that a judge is asked about some of the answers to a prompt, in this order.

    `about` is the aspect, or COMPARISON.
    """

    item: Answered
    order: tuple[int, ...]
    about: Aspect | Literal["comparison"]

    @property
    def key(self) -> tuple[int, str, tuple[int, ...]]:
        return self.item.index, self.about, self.order


@dataclass
class ModelRater:
    """A model that is asked."""

    name: str
    config: JudgeConfig
    judge: Judge
    record: Record
    outage: Outage
    waits: bool

    def rates(self, prompt: Prompt) -> bool:
        return True

    def rate(self, items: Sequence[Answered]) -> Iterator[tuple[int, Judged]]:
        for start in range(0, len(items), PROMPTS_AT_ONCE):
            yield from self._rate(items[start : start + PROMPTS_AT_ONCE])

    def _rate(self, items: Sequence[Answered]) -> Iterator[tuple[int, Judged]]:
        questions = {item.index: self._questions(item) for item in items}
        read: dict[tuple[int, str, tuple[int, ...]], tuple[float, ...] | None] = {}
        every = [question for item in items for question in questions[item.index]]
        left = {item.index: len(questions[item.index]) for item in items}
        by_index = {item.index: item for item in items}
        for item in items:
            if not questions[item.index]:
                yield item.index, Judged((None,) * len(item.answers))
        for question, scores in self._ask(every):
            read[question.key] = scores
            index = question.item.index
            left[index] -= 1
            if not left[index]:
                found = [(each, read.pop(each.key)) for each in questions[index]]
                yield index, judged(by_index[index], found)

    def _questions(self, item: Answered) -> list[Question]:
        places = item.usable
        if len(places) < 2:
            return []
        orders: list[tuple[int, ...]] = [places]
        topics: Sequence[Aspect | Literal["comparison"]] = self.config.aspects
        if self.config.method is Method.PAIRWISE:
            orders, topics = list(combinations(places, 2)), [COMPARISON]
        if self.config.positions == "both":
            orders = [each for order in orders for each in (order, order[::-1])]
        return [Question(item, order, topic) for order in orders for topic in topics]

    def _ask(self, questions: Sequence[Question]) -> Iterator[tuple[Question, tuple[float, ...] | None]]:
        """What the judge says to each question, None where it says nothing that can be read."""
        asked = [(question, self._messages(question)) for question in questions]
        for attempt in range(1, self.config.max_tries + 1):
            again: list[tuple[Question, Conversation]] = []
            requests = [JudgeRequest(messages, self.config.max_tokens) for _, messages in asked]
            for index, reply in self.judge.ask(requests):
                question, messages = asked[index]
                scores = None if reply.text is None else self._read(question, reply.text)
                self._keep(question, messages, reply, scores)
                self.outage.note(reply.failure)
                if scores is None and reply.text is not None and attempt < self.config.max_tries:
                    again.append((question, self._once_more(question, messages, reply.text)))
                else:
                    yield question, scores
            if not (asked := again):
                return

    def _messages(self, question: Question) -> Conversation:
        prompt = question.item.prompt.messages
        texts = [question.item.text(place) for place in question.order]
        if self.config.method is Method.PAIRWISE:
            return rubric.comparison_messages(prompt, texts)
        assert question.about != COMPARISON
        return rubric.rating_messages(prompt, texts, question.about)

    def _read(self, question: Question, text: str) -> tuple[float, ...] | None:
        if self.config.method is Method.PAIRWISE:
            return rubric.read_comparison(text)
        return rubric.read_ratings(text, len(question.order))

    def _once_more(self, question: Question, messages: Conversation, text: str) -> Conversation:
        pairwise = self.config.method is Method.PAIRWISE
        form = rubric.COMPARISON_FORM if pairwise else rubric.rating_form(len(question.order))
        # A turn without content is refused by some servers.
        said = Message("assistant", text if text.strip() else "(nothing)")
        return (*messages, said, Message("user", rubric.AGAIN.format(form)))

    def _keep(
        self, question: Question, messages: Conversation, reply: JudgeReply, scores: tuple[float, ...] | None
    ) -> None:
        self.record(
            {
                "prompt": question.item.prompt.key,
                "judge": self.name,
                "about": question.about,
                "order": question.order,
                "messages": turns(messages),
                "reply": reply.text,
                "failure": reply.failure,
                "scores": scores,
            }
        )


def judged(item: Answered, found: Sequence[tuple[Question, tuple[float, ...] | None]]) -> Judged:
    """The scores of answers from what all questions about them gave."""
    given: dict[int, list[Score]] = defaultdict(list)
    by_order: dict[tuple[int, ...], list[tuple[float, ...]]] = defaultdict(list)
    for question, scores in found:
        for number, place in enumerate(question.order):
            given[place].append(None if scores is None else scores[number])
        if scores is not None:
            by_order[question.order].append(scores)
    topics = {question.about for question, _ in found}
    shown = [
        Shown(order, tuple(sum(column) / len(column) for column in zip(*rows, strict=True)))
        for order, rows in by_order.items()
        if len(rows) == len(topics)
    ]
    return Judged(tuple(_mean(given.get(place, [])) for place in range(len(item.answers))), tuple(shown))


def _mean(scores: Sequence[Score]) -> Score:
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known and len(known) == len(scores) else None


@dataclass
class RewardRater:
    """A reward model of this machine."""

    name: str
    config: JudgeConfig
    stage: StageRun
    record: Record
    waits: bool = True

    def rates(self, prompt: Prompt) -> bool:
        return True

    def rate(self, items: Sequence[Answered]) -> Iterator[tuple[int, Judged]]:
        import torch

        from cameleer.model.load import load_renderer
        from cameleer.model.reward import RewardModel, RewardScorer, load_reward_model

        folder = self.stage.inputs[self.config.role]
        on_gpu = torch.cuda.is_available()
        dtype, device = (torch.bfloat16, "cuda") if on_gpu else (torch.float32, "cpu")
        renderer = load_renderer(folder, template_of(self.config, self.stage))
        scorer = RewardScorer(RewardModel(load_reward_model(folder, dtype, device)), renderer)
        for start in range(0, len(items), PROMPTS_AT_ONCE):
            some = items[start : start + PROMPTS_AT_ONCE]
            texts = [[item.text(place) for place in item.usable] for item in some]
            for item, found in zip(some, scorer.score([item.prompt.messages for item in some], texts), strict=True):
                by_place = dict(zip(item.usable, found, strict=True))
                scores = tuple(by_place.get(place) for place in range(len(item.answers)))
                self.record({"prompt": item.prompt.key, "judge": self.name, "scores": scores})
                yield item.index, Judged(scores)


class MeteredJudge:
    """A judge behind a server, whose spending is kept with each reply."""

    def __init__(self, who: str, endpoint: Endpoint, ledger: Ledger) -> None:
        self._who, self._ledger = who, ledger
        self._judge = EndpointJudge(endpoint)
        ledger.restore(who, endpoint)

    @property
    def identity(self) -> dict[str, Any]:
        return self._judge.identity

    def ask(self, requests: Sequence[JudgeRequest]) -> Iterator[tuple[int, JudgeReply]]:
        for each in self._judge.ask(requests):
            self._ledger.note(self._who)
            yield each


class LateJudge:
    """A judge of this machine that is in memory only while it is asked: the models of the pool have left it by then."""

    def __init__(self, config: JudgeConfig, stage: StageRun) -> None:
        self._config, self._stage = config, stage
        self._digest = content_digest(stage.inputs[config.role])

    @property
    def identity(self) -> dict[str, Any]:
        return {"judge": "local", "model": self._digest}

    def ask(self, requests: Sequence[JudgeRequest]) -> Iterator[tuple[int, JudgeReply]]:
        from cameleer.model.generate import load_generator
        from cameleer.model.load import load_renderer

        if requests:
            folder = self._stage.inputs[self._config.role]
            renderer = load_renderer(folder, template_of(self._config, self._stage))
            yield from LocalJudge(load_generator(folder, renderer), renderer, self._digest).ask(requests)


def make_rater(config: JudgeConfig, stage: StageRun, pool: VerifierPool, ledger: Ledger, record: Record) -> Rater:
    """The judge that a table describes. Raises UserError for settings that are wrong."""
    if config.method is Method.VERIFIER:
        return VerifierRater(config.name, pool, record)
    if config.method is Method.REWARD_MODEL:
        return RewardRater(config.name, config, stage, record)
    outage = Outage(config.role, FAILURES_IN_A_ROW + config.max_concurrency)
    is_local = config.endpoint is None
    judge = LateJudge(config, stage) if is_local else MeteredJudge(config.role, open_endpoint(config), ledger)
    # A folder for each judge: two may ask the same model, and each writes its own file.
    cached = CachedJudge(judge, stage.folder / CHECKPOINTS / REPLIES / digest_json(config.name)[:8])
    return ModelRater(config.name, config, cached, record, outage, waits=is_local)


class RatingThread:
    """A judge at work on prompts as their answers become complete; it takes all that wait at once.

    `failed` is told, in the judge's thread, of the UserError that ends its work. `judged` fills meanwhile.
    """

    def __init__(self, rater: Rater, failed: Callable[[UserError], None]) -> None:
        self.rater, self.judged, self.num_items = rater, dict[int, Judged](), 0
        self._failed = failed
        self._queue: SimpleQueue[Answered | None] = SimpleQueue()
        self._error: BaseException | None = None
        self._left = False
        self._thread = threading.Thread(target=self._work, daemon=True, name="judge")
        self._thread.start()

    def put(self, item: Answered) -> None:
        """Have a prompt's answers rated."""
        self.num_items += 1
        self._queue.put(item)

    def end(self) -> None:
        """Say that nothing more comes."""
        self._queue.put(None)

    def wait(self, seconds: float) -> bool:
        """Whether the work has ended, after so many seconds at most. Raises what ended it, a UserError apart."""
        self._thread.join(seconds)
        if self._error is not None:
            raise self._error
        return not self._thread.is_alive()

    def leave(self) -> None:
        """End the work at its next judgement."""
        self._left = True
        self.end()
        self._thread.join(LEAVE_SECONDS)

    def _work(self) -> None:
        try:
            while items := self._waiting():
                for index, found in self.rater.rate(items):
                    self.judged[index] = found
                    if self._left:
                        return
        except UserError as failure:
            self._failed(failure)
        except BaseException as failure:
            self._error = failure

    def _waiting(self) -> list[Answered]:
        """All that wait, at least one; nothing at the end, which comes after the last item."""
        items: list[Answered] = []
        while not items or not self._queue.empty():
            item = self._queue.get()
            if item is None:
                self._queue.put(None)
                return items
            items.append(item)
        return items
