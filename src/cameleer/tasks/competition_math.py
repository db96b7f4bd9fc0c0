r"""MATH (Hendrycks et al. 2021): competition mathematics, with Tülu 3's settings, and its training task for RLVR.

`math` follows OLMES' `minerva_math::tulu`: test split, the four worked examples of Minerva (Lewkowycz et al. 2022) each
as an exchange `Problem:⏎…⏎⏎Solution:` and solution, greedy, 1,024 tokens, no stop text, mean over the seven subjects.

`math-train` is the prompt of Tülu 3's RLVR on the train split: the same examples and the problem in one user turn, as
blocks `Question: …⏎Answer:…`. Verifier and target, the content of the solution's last `\boxed{}`, are the evaluation's.

The examples are read from the prompt of the first row of allenai/RLVR-MATH. It holds Minerva's without their last line;
for the evaluation that line, `Final Answer: The final answer is $…$. I hope it is correct.`, is made from the boxed
answer. Departures: white space and line ends inside two of the four are the RLVR row's, which differ from OLMES'.
"""

from collections.abc import Iterator
from functools import partial

from cameleer.core.types import Conversation, Problem
from cameleer.tasks.benchmark import Row, Shot, examples_in_prompt, rows, with_shots
from cameleer.tasks.generate import dialogue
from cameleer.tasks.mirror import DatasetSplit
from cameleer.tasks.task import Average, Decoding, Split, Task, TaskRole

SUBJECTS = (
    "algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory", "prealgebra",
    "precalculus",
)  # fmt: skip
TEST = tuple(DatasetSplit("EleutherAI/hendrycks_math", subject, "test") for subject in SUBJECTS)
TRAIN = tuple(DatasetSplit("EleutherAI/hendrycks_math", subject, "train") for subject in SUBJECTS)
EXAMPLES = DatasetSplit("allenai/RLVR-MATH", "default", "train")

NUM_SHOTS = 4


def boxed_answer(solution: str) -> str | None:
    r"""The content of the last `\boxed{…}` or `\fbox{…}`, or of `\boxed …` up to the next `$`; None without one."""
    start = max(solution.rfind("\\boxed"), solution.rfind("\\fbox"))
    if start < 0:
        return None
    rest = solution[start:].partition("box")[2].removeprefix("ed")
    if not rest.startswith("{"):
        return rest.partition("$")[0].strip() or None
    depth = 0
    for place, character in enumerate(rest):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return rest[1:place].strip() or None
    return None


def final_answer(answer: str) -> str:
    """The sentence with which Minerva's examples end."""
    return f"Final Answer: The final answer is ${answer}$. I hope it is correct."


def _evaluated(shots: tuple[Shot, ...], question: str) -> Conversation:
    spoken = [
        (_asked(problem), f"{solution}\n{final_answer(boxed_answer(solution) or '')}") for problem, solution in shots
    ]
    return with_shots(spoken, _asked(question))


def _asked(problem: str) -> str:
    return f"Problem:\n{problem}\n\nSolution:"


def _trained(shots: tuple[Shot, ...], question: str) -> Conversation:
    blocks = [f"Question: {asked}\nAnswer:{answer}" for asked, answer in shots]
    return dialogue(["\n\n".join([*blocks, f"Question: {question}"])])


def _examples() -> tuple[Shot, ...]:
    shots = examples_in_prompt(EXAMPLES, NUM_SHOTS)
    if not all(boxed_answer(solution) for _, solution in shots):
        raise next(rows(EXAMPLES, ["messages"])).fault("messages", "examples whose solutions box an answer")
    return shots


def _problem(row: Row, task: str, shots: tuple[Shot, ...]) -> Problem:
    answer = boxed_answer(row.text("solution"))
    if answer is None:
        raise row.fault("solution", "a solution with a boxed answer")
    subject = row.split.config
    messages = (_evaluated if task == "math" else _trained)(shots, row.text("problem"))
    metadata = {"level": row.fields["level"]}
    id, gold = f"{task}/{subject}/{row.index}", f"{row.text('solution')}\n{final_answer(answer)}"
    return Problem(id, task, subject, messages, "math", answer, gold, metadata, own_texts=(row.text("problem"),))


def problems(seed: int, task: str, splits: tuple[DatasetSplit, ...]) -> Iterator[Problem]:
    """The problems of the splits, in order."""
    shots = _examples()
    for split in splits:
        for row in rows(split, ["problem", "level", "solution"]):
            yield _problem(row, task, shots)


def wrong_answer(problem: Problem) -> str:
    """The final sentence with a number that no answer is."""
    return final_answer("-98765432109.25")


TASKS = (
    Task(
        name="math",
        version=1,
        role=TaskRole.DEV,
        split=Split.DEV,
        decoding=Decoding(1024),
        description="Competition mathematics in seven subjects, 4-shot with chain of thought.",
        source=partial(problems, task="math", splits=TEST),
        wrong=wrong_answer,
        datasets=(*TEST, EXAMPLES),
        metric="flex exact match",
        average=Average.FAMILIES,
    ),
    Task(
        name="math-train",
        version=1,
        role=TaskRole.TRAIN,
        split=Split.TRAIN,
        decoding=Decoding(2048, temperature=1.0),
        description="MATH's train split with the prompt of Tülu 3's RLVR.",
        source=partial(problems, task="math-train", splits=TRAIN),
        wrong=wrong_answer,
        datasets=(*TRAIN, EXAMPLES),
        metric="flex exact match",
    ),
)
