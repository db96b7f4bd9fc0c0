"""IFEval-OOD: prompts with instructions that a program can check and that are none of IFEval's 25.

The rows are those of IFBench's test set (Pyatkin et al. 2025; 300 prompts, 58 instructions), which OLMES'
`ifeval_ood::tulu` reads today: the prompt alone, greedy, 2,048 tokens; the metric is the share of prompts all of whose
instructions are followed, judged loosely. The set that the Tülu 3 report measured had 52 instructions, of which 48 are
among these; its scores are not comparable to the digit.

The dataset has no answers. As for IFEval, the gold response of a prompt is made up to follow its instructions and says
nothing (`ifeval_ood_gold`).
"""

from collections.abc import Iterator

from cameleer.core.types import Problem
from cameleer.tasks.benchmark import Row, rows
from cameleer.tasks.generate import dialogue
from cameleer.tasks.ifeval import read_target
from cameleer.tasks.ifeval_ood_gold import compliant_response
from cameleer.tasks.mirror import DatasetSplit
from cameleer.tasks.task import Decoding, Split, Task, TaskRole
from cameleer.verify.instructions.ood import listed_instructions

TRAIN = DatasetSplit("allenai/IFBench_test", "default", "train")
"""The hub's only split; it is the test set."""


def _problem(row: Row) -> Problem:
    target, instructions = read_target(row, listed_instructions)
    id, family = f"ifeval-ood/{row.fields['key']}", instructions[0][0].partition(":")[0]
    gold = compliant_response(instructions)
    return Problem(id, "ifeval-ood", family, dialogue([target["prompt"]]), "ifeval_ood", target, gold)


def problems(seed: int) -> Iterator[Problem]:
    """The prompts, in order."""
    return map(_problem, rows(TRAIN, ["key", "prompt", "instruction_id_list", "kwargs"]))


def wrong_answer(problem: Problem) -> str:
    """Nothing, which follows no instruction."""
    return ""


TASKS = (
    Task(
        name="ifeval-ood",
        version=1,
        role=TaskRole.UNSEEN,
        split=Split.UNSEEN,
        decoding=Decoding(2048),
        description="Prompts with instructions that a program can check and that IFEval has not.",
        source=problems,
        wrong=wrong_answer,
        datasets=(TRAIN,),
        metric="prompt-level loose accuracy",
    ),
)
