"""How many rows there are, and how long: from what is on this machine, from published figures, else assumed.

Rows and bytes of hub datasets are those of their cards (`dataset_info`), which the hub computes. Bytes become tokens by
BYTES_PER_TOKEN. A plan lists what it assumed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cameleer.core.artifact import read_manifest
from cameleer.core.errors import UserError
from cameleer.core.parquet import PARQUET_MAGIC
from cameleer.core.prompt_range import share_of
from cameleer.core.recipe import Recipe, Stage
from cameleer.core.web import copy_of, is_address
from cameleer.curate.config import CurateConfig, ProblemSource, Source
from cameleer.evals.config import GENERATED_ITEMS, find_eval_task
from cameleer.prefs.config import PairsConfig, PrefsConfig
from cameleer.synth.config import SynthConfig
from cameleer.synth.identity import identity_rows

BYTES_PER_TOKEN = 4.0
"""Assumed; English prose has more, mathematics, code and other scripts fewer (2.9 to 3.7 in samples of Tülu's data with
SmolLM2's vocabulary of 49k, whose tokens are shorter than those of Llama's 128k)."""
BYTES_BESIDE_TEXT = 100
"""Ids, roles and sources of a row."""
TEMPLATE_TOKENS = 20
"""Assumed tokens of the chat template in a row."""
LONGEST = 6
"""Assumed: the longest row has so many times the mean."""
TRAINED_SHARE = 0.65
"""Assumed share of a conversation's tokens that an assistant says."""
PROMPT_SHARE = 0.15
"""Assumed share of a recorded pair's bytes that its prompt takes, which is there three times."""
ANSWER_TOKENS = 400
"""Assumed length of a sampled answer."""
ITEM_TOKENS = 400
"""Assumed prompt of a benchmark's item, exemplars included."""
ROW_BYTES = 1500
"""Assumed for rows of which nothing is known."""
TASK_SAMPLE = 64


class Known(NamedTuple):
    """A hub dataset: rows and bytes of its card, and the download."""

    rows: int
    bytes: int
    download: int


DATASETS: dict[str, Known] = {
    "allenai/tulu-3-sft-mixture": Known(939_343, 2_914_250_826, 1_412_954_868),
    "allenai/llama-3.1-tulu-3-8b-preference-mixture": Known(271_409, 1_680_549_462, 891_001_444),
    "allenai/llama-3.1-tulu-3-70b-preference-mixture": Known(334_367, 2_282_537_650, 1_229_520_687),
    "allenai/llama-3.1-tulu-3-405b-preference-mixture": Known(360_924, 3_319_390_661, 1_728_437_751),
    "allenai/RLVR-GSM-MATH-IF-Mixed-Constraints": Known(29_946, 58_788_096, 16_533_143),
    # Its bytes: those of the mixed set without the cards of RLVR-GSM (18,898,829) and RLVR-IFeval (29,394,048).
    "allenai/RLVR-MATH": Known(7_500, 10_495_219, 1_950_000),
}

TASK_ITEMS: dict[str, int] = {
    **{"mmlu": 14_042, "popqa": 14_267, "truthfulqa": 817, "bbh": 6_511, "drop": 9_536, "math": 5_000, "gsm8k": 1_319},
    **{"humaneval": 164, "humaneval-plus": 164, "ifeval": 541, "alpaca-eval": 805, "harmbench": 320, "xstest": 450},
    **{"wildguardtest": 1_725, "jailbreak-trigger": 400, "do-anything-now": 300, "wildjailbreak-test": 2_210},
    **{"mmlu-pro": 12_032, "gpqa": 448, "bigcodebench-hard": 148, "ifeval-ood": 300, "href": 430},
    **{"deepmind-math": 5_600, "agieval-english": 2_546},
}
"""Items of benchmarks, as their publishers count them."""


@dataclass(frozen=True)
class Rows:
    """Conversations: how many, and tokens of all together."""

    count: int
    tokens: float
    trained: float
    seen: float
    """Pairs of tokens that see each other."""
    bytes: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pairs:
    """Preference pairs: how many, and mean lengths in tokens."""

    count: int
    prompt: float
    chosen: float
    rejected: float
    bytes: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prompts:
    """Prompts: how many, and their mean length in tokens."""

    count: int
    tokens: float
    bytes: float
    notes: tuple[str, ...] = ()


def mixture_of(recipe: Recipe, reference: str, max_tokens: int | None = None) -> Rows:
    """The conversations of a mixture: a curate or synth stage's, or those of a folder, by its manifest."""
    stage = _stage(recipe, reference)
    if stage is None:
        counts = _counts(recipe.folder / reference)
        return conversations(int(counts["rows"]), float(counts["characters"]), max_tokens)
    if isinstance(stage.config, SynthConfig):
        notes = [f"{stage.name}: {ROW_BYTES} bytes a row"]
        count = synthetic_rows(recipe, stage.config, notes)
        return conversations(count, count * ROW_BYTES, max_tokens, notes)
    assert isinstance(stage.config, CurateConfig), stage
    notes = []
    count, size = 0, 0.0
    for source, share in zip(stage.config.sources, stage.config.row_counts(), strict=True):
        rows, bytes_per_row = _source(recipe, source, share, notes)
        count, size = count + rows, size + rows * bytes_per_row
    return conversations(count, size, max_tokens, notes)


def synthetic_rows(recipe: Recipe, config: SynthConfig, notes: list[str]) -> int:
    """The most rows that a synth stage makes, every prompt in its form and answered; a template that has not been
    fetched yet is noted and not counted."""
    asked, identity = sum(each.count for each in config.prompts), config.identity
    if identity is None:
        return asked
    template = None if identity.template is None else recipe.folder / identity.template
    if identity.template is not None and is_address(identity.template):
        template = copy_of(identity.template)
        if not template.is_file():
            notes.append(f"{template.name}: not fetched yet; its rows are not counted")
            return asked
    return asked + len(identity_rows(identity.names, template)[0])


def conversations(count: int, size: float, max_tokens: int | None, notes: list[str] | None = None) -> Rows:
    """So many conversations of so many bytes together, none longer than `max_tokens`."""
    mean = size / count / BYTES_PER_TOKEN + TEMPLATE_TOKENS
    if max_tokens is not None:
        mean = min(mean, max_tokens)
    said = [f"{mean:,.0f} tokens a row ({BYTES_PER_TOKEN:g} bytes a token)", f"{TRAINED_SHARE:.0%} of them trained"]
    # Lengths that spread like waiting times have twice the square of their mean as mean square.
    seen = count * mean * mean
    return Rows(count, count * mean, TRAINED_SHARE * count * mean, seen, size, tuple([*said, *(notes or [])]))


def _source(recipe: Recipe, source: Source, share: int | None, notes: list[str]) -> tuple[int, float]:
    """Rows that a source gives, and bytes of each."""
    if source.task is not None:
        assert share is not None, source
        return share, _task_bytes(source.task, notes)
    if source.mixture is not None:
        made = mixture_of(recipe, source.mixture)
        rows, size = made.count, made.bytes / made.count
        notes += made.notes[2:]
    elif source.dataset is not None:
        rows, size = _dataset(source.dataset, notes)
    else:
        rows, size = _file(recipe, str(source.file), notes)
    if share is None and (rows is None or source.where):
        what = "its part" if source.where else f"'{source.dataset or source.file}'"
        raise UserError(f"source '{source.name}': how many rows {what} has is not known here.", "Set its count.")
    found = round((source.fraction or 1) * share_of(source.prompt_range) * (rows or 0))
    return share if share is not None else min(found, source.max_count or found), size


def _dataset(name: str, notes: list[str]) -> tuple[int | None, float]:
    if name in DATASETS:
        known = DATASETS[name]
        return known.rows, known.bytes / known.rows - BYTES_BESIDE_TEXT
    notes.append(f"{name}: {ROW_BYTES} bytes a row")
    return None, ROW_BYTES


def _file(recipe: Recipe, reference: str, notes: list[str]) -> tuple[int | None, float]:
    """Rows and bytes a row of Parquet and plain JSONL; else, and of an address not fetched yet, only an assumption."""
    path = copy_of(reference) if is_address(reference) else recipe.folder / reference
    if is_address(reference) and not path.is_file():
        notes.append(f"{path.name}: not fetched yet; {ROW_BYTES} bytes a row")
        return None, ROW_BYTES
    with path.open("rb") as raw:
        magic = raw.read(len(PARQUET_MAGIC))
    if magic == PARQUET_MAGIC:
        try:
            metadata = pq.read_metadata(path)
        except pa.ArrowException as failure:
            raise UserError(f"{path}: not a readable Parquet file: {failure}") from None
        size = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
        return metadata.num_rows, size / max(1, metadata.num_rows)
    if magic[:2] != b"\x1f\x8b" and magic[:1] == b"{":
        with path.open("rb") as lines:
            count = sum(1 for line in lines if not line.isspace())
        return count, path.stat().st_size / count
    notes.append(f"{path.name}: {ROW_BYTES} bytes a row")
    return None, ROW_BYTES


@lru_cache
def _task_sample(name: str) -> float | None:
    """Mean bytes of a generated task's problems with their golds; None where a benchmark would have to be read."""
    task = find_eval_task(name)
    if task.datasets:
        return None
    problems = task.problems(TASK_SAMPLE, 0)
    sizes = [len(each.gold) + sum(len(message.content) for message in each.messages) for each in problems]
    return sum(sizes) / len(sizes)


def _task_bytes(name: str, notes: list[str]) -> float:
    found = _task_sample(name)
    if found is None:
        notes.append(f"task {name}: {ROW_BYTES} bytes a problem")
    return found or ROW_BYTES


def pairs_of(recipe: Recipe, reference: str, max_tokens: int | None = None) -> Pairs:
    """The pairs of a prefs stage, or of a folder by its manifest; none longer than `max_tokens`."""
    stage, notes, parts = _stage(recipe, reference), list[str](), list[tuple[int, float, float]]()
    if stage is None:
        parts.append(_recorded(int(_counts(recipe.folder / reference)["pairs"]), ROW_BYTES))
        notes.append(f"pairs of {ROW_BYTES} bytes")
    else:
        assert isinstance(stage.config, PrefsConfig), stage
        parts += [_recorded(*_recorded_rows(recipe, source, notes)) for source in stage.config.sources]
        for index in range(len(stage.config.prompts)):
            prompts = prompts_of(recipe, stage.config, index)
            parts.append((prompts.count, prompts.tokens, min(ANSWER_TOKENS, stage.config.max_new_tokens)))
            notes.append("every prompt makes a pair")
    count = sum(rows for rows, _, _ in parts)
    prompt = sum(rows * prompt for rows, prompt, _ in parts) / count + TEMPLATE_TOKENS
    answer = sum(rows * answer for rows, _, answer in parts) / count
    size = count * BYTES_PER_TOKEN * (3 * prompt + 2 * answer)
    if max_tokens is not None:
        answer = min(answer, max_tokens - prompt)
    said = f"prompts of {prompt:,.0f}, answers of {answer:,.0f} tokens ({BYTES_PER_TOKEN:g} bytes a token)"
    return Pairs(count, prompt, answer, answer, size, (said, *dict.fromkeys(notes)))


def _recorded(count: int, size: float) -> tuple[int, float, float]:
    """Pairs of so many bytes each, prompt and answer in tokens: a row holds its prompt three times, and two answers."""
    tokens = size / BYTES_PER_TOKEN
    return count, PROMPT_SHARE * tokens, (1 - 3 * PROMPT_SHARE) / 2 * tokens


def _recorded_rows(recipe: Recipe, source: PairsConfig, notes: list[str]) -> tuple[int, float]:
    rows, size = _dataset(source.dataset, notes) if source.dataset else _file(recipe, str(source.file), notes)
    count = source.count or (None if rows is None else round(share_of(source.prompt_range) * rows))
    if count is None:
        raise UserError(f"pairs '{source.name}': how many there are is not known here.", "Set their count.")
    return count, size


def prompts_of(recipe: Recipe, config: PrefsConfig, index: int) -> Prompts:
    """The prompts of a table of a prefs stage."""
    table = config.prompts[index]
    if table.problems is not None:
        found = problems_of(recipe, table.problems)
    else:
        rows = mixture_of(recipe, str(table.mixture))
        found = Prompts(rows.count, (rows.tokens - rows.trained) / rows.count, rows.bytes, rows.notes)
    count = (table.count or found.count) * table.repeats
    return Prompts(count, found.tokens, count * found.tokens * BYTES_PER_TOKEN, found.notes)


def problems_of(recipe: Recipe, reference: str) -> Prompts:
    """The problems of a curate or synth stage, or of a folder by its manifest."""
    stage = _stage(recipe, reference)
    if stage is None:
        count = int(_counts(recipe.folder / reference)["problems"])
        return Prompts(count, ROW_BYTES / BYTES_PER_TOKEN, count * ROW_BYTES, (f"problems of {ROW_BYTES} bytes",))
    if isinstance(stage.config, SynthConfig):
        count, tokens = sum(each.count for each in stage.config.prompts), ROW_BYTES / BYTES_PER_TOKEN
        return Prompts(count, tokens, count * ROW_BYTES, (f"at most {count:,} of {ROW_BYTES} bytes",))
    assert isinstance(stage.config, CurateConfig), stage
    if not stage.config.problems:
        raise UserError(f"[{stage.name}] makes no problems.", "Add a table [[curate.problems]].")
    notes: list[str] = []
    count, size = 0, 0.0
    for source in stage.config.problems:
        rows, bytes_per_row = _problem_rows(recipe, source, notes)
        count, size = count + rows, size + rows * bytes_per_row
    tokens = size / count / BYTES_PER_TOKEN + TEMPLATE_TOKENS
    said = f"prompts of {tokens:,.0f} tokens ({BYTES_PER_TOKEN:g} bytes a token)"
    return Prompts(count, tokens, size, (said, *notes))


def _problem_rows(recipe: Recipe, source: ProblemSource, notes: list[str]) -> tuple[int, float]:
    if source.task is not None:
        assert source.count is not None, source
        return source.count, _task_bytes(source.task, notes)
    if source.problems is not None:
        made = problems_of(recipe, source.problems)
        return source.count or made.count, made.bytes / made.count
    rows, size = _dataset(source.dataset, notes) if source.dataset else _file(recipe, str(source.file), notes)
    count = source.count or (None if rows is None else round(share_of(source.prompt_range) * rows))
    if count is None:
        raise UserError(f"problems '{source.name}': how many there are is not known here.", "Set their count.")
    return count, size


def items_of(task: str, num_items: int | None) -> int:
    """Items of a task that an evaluation asks: all of a benchmark, or the number asked for."""
    if task not in TASK_ITEMS:
        return num_items or GENERATED_ITEMS
    return min(num_items or TASK_ITEMS[task], TASK_ITEMS[task])


def item_tokens(task: str) -> float:
    """Mean prompt of a task's items: of generated tasks measured, of benchmarks assumed."""
    if task in TASK_ITEMS:
        return ITEM_TOKENS
    return _task_bytes(task, []) / BYTES_PER_TOKEN + TEMPLATE_TOKENS


def _stage(recipe: Recipe, reference: str) -> Stage | None:
    return next((stage for stage in recipe.stages if stage.name == reference), None)


def _counts(folder: Path) -> Mapping[str, Any]:
    manifest = read_manifest(folder)
    assert manifest is not None, folder
    return manifest.counts
