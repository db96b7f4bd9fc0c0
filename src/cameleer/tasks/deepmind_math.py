"""DeepMind Mathematics (Saxton et al. 2019): generated problems of 56 categories, from algebra to probability.

The settings are Tülu 3's for its unseen suite (OLMES `deepmind_math:0shot_cot-v3::tulu3`, the prompt that the report
chose): the prompt of its Figure 45, word for word, greedy, 2,048 tokens, 100 problems of each category, mean over the
categories.

Departures. The report's 100 problems and three example answers of each category were drawn at random and are stored in
OLMES; the examples come from the train split, which has two million rows a category. Here both come from the test split
on the hub, whose rows are generated in random order: the first 100 rows are the problems, and the last five, which are
never asked, give the examples. Of their distinct answers these are the shortest, the middle one and the longest, so two
where there are only True and False.
"""

import ast
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice

from cameleer.core.errors import UserError
from cameleer.core.types import Problem
from cameleer.tasks.benchmark import Row, rows
from cameleer.tasks.generate import dialogue
from cameleer.tasks.mirror import DatasetSplit
from cameleer.tasks.task import Average, Decoding, Split, Task, TaskRole

NUM_PROBLEMS = 100
"""Of each category."""
NUM_EXAMPLE_ROWS = 5
CATEGORIES = tuple(
    f"{area}__{name}"
    for area, names in {
        "algebra": "linear_1d linear_1d_composed linear_2d linear_2d_composed polynomial_roots "
        "polynomial_roots_composed sequence_next_term sequence_nth_term",
        "arithmetic": "add_or_sub add_or_sub_in_base add_sub_multiple div mixed mul mul_div_multiple "
        "nearest_integer_root simplify_surd",
        "calculus": "differentiate differentiate_composed",
        "comparison": "closest closest_composed kth_biggest kth_biggest_composed pair pair_composed sort sort_composed",
        "measurement": "conversion time",
        "numbers": "base_conversion div_remainder div_remainder_composed gcd gcd_composed is_factor is_factor_composed "
        "is_prime is_prime_composed lcm lcm_composed list_prime_factors list_prime_factors_composed place_value "
        "place_value_composed round_number round_number_composed",
        "polynomials": "add coefficient_named collect compose evaluate evaluate_composed expand simplify_power",
        "probability": "swr_p_level_set swr_p_sequence",
    }.items()
    for name in names.split()
)
DATASETS = tuple(DatasetSplit("deepmind/math_dataset", category, "test") for category in CATEGORIES)

_PROMPT = """\
Solve the following math problem efficiently:
{question}

Show your work and conclude with the exact phrasing "Therefore, the final answer is [answer]. I hope it is correct." \
where [answer] is just the final number, expression, or answer label representing the solution.  Some example answers \
from this question category:
{examples}

Note the formatting for the following answer types:
- If the answer is a list (e.g., when there are two solutions to an equation), unless otherwise specified, present the \
solutions in a list separated by commas ordering them from the smallest to biggest  e.g.: 2, 10
- Powers should be written with **, for instance x to the power of 2 should be written as x**2
- Use * for multiplication, e.g.: 2*x
- For fractions, separate the numerator and denominator with a slash (/) e.g.: -2/7"""
_CONCLUSION = "Therefore, the final answer is {}. I hope it is correct."
_WRONG_ANSWERS = ("-987654.321", "-123456.789")


def plain(text: str) -> str:
    """The text of a field; the hub's fields are Python's notation of bytes, `b'4\\n'`."""
    if text[:2] in ("b'", 'b"'):
        text = ast.literal_eval(text).decode()
    return text.strip()


def example_answers(answers: Sequence[str]) -> list[str]:
    """The shortest, the middle one and the longest of the distinct answers; all if there are fewer than three."""
    ordered = sorted(set(answers), key=lambda answer: (len(answer), answer))
    return ordered if len(ordered) < 3 else [ordered[0], ordered[len(ordered) // 2], ordered[-1]]


def _problem(row: Row, examples: Sequence[str]) -> Problem:
    category, answer = row.split.config, plain(row.text("answer"))
    shown = "\n".join(f'- If the answer is {one}, conclude with "{_CONCLUSION.format(one)}"' for one in examples)
    question = plain(row.text("question"))
    messages = dialogue([_PROMPT.format(question=question, examples=shown)])
    id, gold = f"deepmind-math/{category}/{row.index}", _CONCLUSION.format(answer)
    return Problem(id, "deepmind-math", category, messages, "deepmind_math", answer, gold, own_texts=(question,))


def category_problems(split: DatasetSplit) -> Iterator[Problem]:
    """The problems of a category. A split without rows beside those of the examples is a UserError."""
    found = list(rows(split, ["question", "answer"]))
    if len(found) <= NUM_EXAMPLE_ROWS:
        raise UserError(f"The mirror's {split} has {len(found)} rows, but {NUM_EXAMPLE_ROWS} are needed as examples.")
    asked, rest = found[:-NUM_EXAMPLE_ROWS], found[-NUM_EXAMPLE_ROWS:]
    examples = example_answers([plain(row.text("answer")) for row in rest])
    return (_problem(row, examples) for row in islice(asked, NUM_PROBLEMS))


def problems(seed: int, datasets: Sequence[DatasetSplit]) -> Iterator[Problem]:
    """The problems of the categories, one category after the other."""
    for split in datasets:
        yield from category_problems(split)


def wrong_answer(problem: Problem) -> str:
    """A number that is not the answer."""
    return _CONCLUSION.format(next(wrong for wrong in _WRONG_ANSWERS if wrong != problem.target))


TASKS = (
    Task(
        name="deepmind-math",
        version=1,
        role=TaskRole.UNSEEN,
        split=Split.UNSEEN,
        decoding=Decoding(2048),
        description="Generated mathematics problems of 56 categories, zero-shot with working.",
        source=partial(problems, datasets=DATASETS),
        wrong=wrong_answer,
        datasets=DATASETS,
        metric="exact match",
        average=Average.FAMILIES,
    ),
)
