"""IFEval (Zhou et al. 2023): 541 prompts with instructions that a program can check, such as `at least 300 words`.

The settings are OLMES' `ifeval::tulu`: the prompt alone, greedy, 2,048 tokens; the metric is the share of prompts of
which every instruction is followed, judged loosely.

The dataset has no answers. The gold response of a prompt is made up to follow its instructions and says nothing
(`ifeval_gold`): it proves that the verifier can be satisfied, not that the task is well done.
"""

from collections.abc import Callable, Iterator
from typing import Any

from cameleer.core.errors import UserError
from cameleer.core.types import Problem
from cameleer.tasks.benchmark import Row, rows
from cameleer.tasks.generate import dialogue
from cameleer.tasks.ifeval_gold import compliant_response
from cameleer.tasks.mirror import DatasetSplit
from cameleer.tasks.task import Decoding, Split, Task, TaskRole
from cameleer.verify.instructions.ifeval import Instruction, listed_instructions

TRAIN = DatasetSplit("google/IFEval", "default", "train")
"""The hub's only split; it is the test set."""


def read_target(row: Row, listed: Callable[[Any], list[Instruction]]) -> tuple[dict[str, Any], list[Instruction]]:
    """What the verifiers of IFEval and IFEval-OOD need of a row, and its instructions as the verifier lists them.

    An id that the verifier does not know and arguments that are none of its are a UserError with the row.
    """
    prompt, ids, kwargs = row.text("prompt"), row.texts("instruction_id_list"), row.fields["kwargs"]
    if not isinstance(kwargs, list) or len(kwargs) != len(ids) or not all(isinstance(one, dict) for one in kwargs):
        raise row.fault("kwargs", f"{len(ids)} tables of arguments, one for each instruction")
    # The hub's table has a column for every argument that exists, null where an instruction does not take it.
    given: list[dict[str, Any]] = [{name: value for name, value in one.items() if value is not None} for one in kwargs]
    target = {"prompt": prompt, "instruction_id_list": ids, "kwargs": given}
    try:
        return target, listed(target)
    except UserError as failure:
        raise UserError(f"{row.split}: row {row.number}: {failure.what}", failure.hint) from None


def _problem(row: Row) -> Problem:
    target, instructions = read_target(row, listed_instructions)
    id, family = f"ifeval/{row.integer('key')}", instructions[0][0].partition(":")[0]
    gold = compliant_response(instructions)
    return Problem(id, "ifeval", family, dialogue([target["prompt"]]), "ifeval", target, gold)


def problems(seed: int) -> Iterator[Problem]:
    """The prompts, in order."""
    return map(_problem, rows(TRAIN, ["key", "prompt", "instruction_id_list", "kwargs"]))


def wrong_answer(problem: Problem) -> str:
    """Nothing, which follows no instruction."""
    return ""


TASKS = (
    Task(
        name="ifeval",
        version=1,
        role=TaskRole.DEV,
        split=Split.DEV,
        decoding=Decoding(2048),
        description="Prompts with instructions that a program can check.",
        source=problems,
        wrong=wrong_answer,
        datasets=(TRAIN,),
        metric="prompt-level loose accuracy",
    ),
)
