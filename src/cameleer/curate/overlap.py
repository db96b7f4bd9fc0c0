r"""Which training prompts overlap with which test items: the measure of Tülu 3 (§3.2), exactly.

    a test token t matches a training item r  iff  an n-gram that contains t stands in a user turn of r   (n = 8)
    share(field, r) = matching tokens of the field / its tokens
    share(item, r)  = mean of share(field, r) over the item's fields that are not empty
    the item overlaps with r  iff  share(item, r) > 0.5                              one training item, not several

Tokens are `words`. n-grams cross neither from one turn to the next nor from one field to the next, so a field of fewer
than n tokens cannot match.

`MatchMode.FULL` is the report's full-string matching: a field matches wholly or not at all, wherever it stands in a
turn as consecutive tokens, however short it is.

How: every distinct n-gram of the test items has a 64-bit hash. Those of a block of training rows come from one running
sum (`rolling`), are held against a table of flags, and what passes is looked up among the sorted hashes. That finds
every pair of a row and an item whose share may suffice, and some more where hashes collide; `_judge` then decides by
the definition, on the tokens. Rows are independent of each other: any blocks and any number of processes give the same.

Departures from the published scripts, which ask a search engine for each n-gram: nothing is cut off at a number of
hits; both sides are tokenised by one rule; a training item is a conversation, of which the scripts index each user turn
as an item of its own; an empty field counts for nothing, not as a mismatch.

Suffixes: T tokens of all distinct fields, one after another; B tokens of a block of training rows. Each field and each
turn is closed by the token END.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from functools import cached_property, partial
from itertools import chain
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from cameleer.core.processes import Executor, Processes
from cameleer.core.rolling import BLOCK_CHARACTERS, Block, Hashes, Ints, grouped
from cameleer.core.words import END, closed, readable, words
from cameleer.curate.config import NGRAM_SIZE, THRESHOLD, MatchMode

CHARACTERS_SENT = 1 << 22
"""Of text that a worker gets at once."""
MAX_POSTINGS = 1 << 22
"""Places of matching n-grams that are sorted at once, or those of one row if they are more."""
MAX_TABLE_BITS = 27
ROUNDING = 1e-9
"""A share computed in floating point is at most so much too small."""
GAP = " … "
"""Between the parts of a matched text."""

Prompt = Sequence[str]
"""The user turns of a training row."""
Ngram = tuple[bytes, ...]
Pairs = tuple[Ints, Ints, Ints]
"""Rows, fields, and how many tokens of the field match the row; each pair of a row and a field once, by row."""


class Item(NamedTuple):
    """A test item with the texts that are compared, each a field."""

    task: str
    id: str
    fields: tuple[str, ...]


class Match(NamedTuple):
    """An overlap: the row's position among those given, the item's number, its share, and the tokens that match."""

    row: int
    item: int
    share: float
    matched_text: str


class Items(ABC):
    """Test items, made ready to be found by some measure."""

    num_too_short: Counter[str]
    """By task the items of which no field can match anything, for want of text."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = list(items)

    @cached_property
    def num_items(self) -> Counter[str]:
        """Items by task."""
        return Counter(item.task for item in self.items)

    @abstractmethod
    def matches(self, prompts: Sequence[Prompt]) -> list[Match]:
        """The overlaps of some rows with all items, by row and item."""


class Index(Items):
    """Test items and their n-grams."""

    def __init__(
        self,
        items: Sequence[Item],
        mode: MatchMode = MatchMode.NGRAM,
        threshold: float = THRESHOLD,
        ngram_size: int = NGRAM_SIZE,
    ) -> None:
        super().__init__(items)
        self.mode, self.ngram_size, self.threshold = mode, ngram_size, Fraction(str(threshold))
        # Many items ask about one passage: equal fields are held once, and equal words too.
        fields: dict[Ngram, int] = {}
        known: dict[bytes, bytes] = {}
        self._item_fields = [
            [fields.setdefault(some, len(fields)) for text in item.fields if (some := _interned(words(text), known))]
            for item in self.items
        ]
        self._fields = list(fields)
        self._num_fields = np.array([len(each) for each in self._item_fields], np.int64)
        self._lengths = np.array([len(field) for field in self._fields], np.int64)
        self._field_of_T = np.repeat(np.arange(len(self._fields)), self._lengths + 1)
        self._items_of = _items_of_fields(self._item_fields, len(self._fields))
        self._is_alone = np.ones(len(self._fields), np.bool_)
        self._is_alone[[field for each in self._item_fields if len(each) > 1 for field in each]] = False
        self._starts = np.cumsum(self._lengths + 1) - self._lengths - 1
        self._sizes = self._lengths * 0 + ngram_size
        if mode is MatchMode.FULL:
            # A field is looked for by its first tokens.
            self._sizes = np.minimum(self._lengths, ngram_size)
        self._tables, self._hashes_of_fields = self._make_tables()
        least = 1 if mode is MatchMode.FULL else ngram_size
        self.num_too_short = Counter(
            item.task
            for item, places in zip(self.items, self._item_fields, strict=True)
            if all(len(self._fields[place]) < least for place in places)
        )

    def matches(self, prompts: Sequence[Prompt]) -> list[Match]:
        found: list[Match] = []
        seen, turns, ngrams = -1, list[list[bytes]](), set[Ngram]()
        for row, item in self._candidates(prompts):
            if row != seen:
                seen, turns = row, [words(turn) for turn in prompts[row]]
                ngrams = {ngram for turn in turns for ngram in _ngrams(turn, self.ngram_size)}
            share, text = self._judge(item, turns, ngrams)
            if share > self.threshold:
                found.append(Match(row, item, float(share), text))
        return found

    # --- by the definition ---

    def _judge(self, item: int, turns: Sequence[list[bytes]], ngrams: set[Ngram]) -> tuple[Fraction, str]:
        """The share of an item that matches a row, given by its turns and their n-grams, and what of it does."""
        shares: list[Fraction] = []
        parts: list[str] = []
        for field in (self._fields[number] for number in self._item_fields[item]):
            if self.mode is MatchMode.FULL:
                spans = [(0, len(field))] if any(_holds(turn, field) for turn in turns) else []
            else:
                shared = [start for start, each in enumerate(_ngrams(field, self.ngram_size)) if each in ngrams]
                spans = _spans(shared, self.ngram_size)
            shares.append(Fraction(sum([end - start for start, end in spans]), len(field)))
            parts += [readable(field[start:end]) for start, end in spans]
        return sum(shares, Fraction()) / len(shares), GAP.join(parts)

    # --- by hashes ---

    def _make_tables(self) -> "tuple[list[_Table], Hashes]":
        """The n-grams of the fields by size, for `FULL` those that fields begin with, and the hash of each field."""
        sizes: list[int] = np.unique(self._sizes).tolist()
        hashes: list[list[Hashes]] = [[] for _ in sizes]
        of_fields: list[Hashes] = []
        texts = (b" ".join((*field, END, b"")) for field in self._fields)
        for block in map(Block, map(b"".join, grouped(texts, BLOCK_CHARACTERS))):
            of_fields.append(block.hashes_of_texts())
            for size, found in zip(sizes, hashes, strict=True):
                found.append(np.pad(block.hashes(size), (0, min(size - 1, block.num_tokens))))
        tables = [
            _make_table(np.concatenate(hashes_T), self._places(size), size)
            for size, hashes_T in zip(sizes, hashes, strict=True)
        ]
        return [table for table in tables if len(table.hashes_N)], np.concatenate([np.zeros(0, np.uint64), *of_fields])

    def _places(self, size: int) -> Ints:
        """Where the n-grams of a size begin that are looked for."""
        if self.mode is MatchMode.FULL:
            return self._starts[self._sizes == size]
        within_T = np.arange(len(self._field_of_T)) - self._starts[self._field_of_T]
        return np.flatnonzero(within_T <= self._lengths[self._field_of_T] - size)

    def _candidates(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, int]]:
        """Pairs of row and item, each once and by row, among them all that overlap."""
        turns = [turn for prompt in prompts for turn in prompt]
        if not turns:
            return
        block = Block(closed(turns))
        row_of_turn = np.repeat(np.arange(len(prompts)), [len(prompt) for prompt in prompts])
        find = self._whole_fields if self.mode is MatchMode.FULL else self._covered_fields
        for rows, fields, covered in find(block, row_of_turn):
            # A field that is its item's only one settles the matter.
            may = ~self._is_alone[fields] | (covered > (float(self.threshold) - ROUNDING) * self._lengths[fields])
            rows, fields, covered = rows[may], fields[may], covered[may]
            source, items = self._items_of.of(fields)
            parts = covered[source] / (self._lengths[fields[source]] * self._num_fields[items])
            keys, places = np.unique(rows[source] * len(self.items) + items, return_inverse=True)
            shares = np.bincount(places, parts, len(keys))
            for key in keys[shares > float(self.threshold) - ROUNDING].tolist():
                yield divmod(key, len(self.items))

    def _covered_fields(self, block: Block, row_of_turn: Ints) -> Iterator[Pairs]:
        for table in self._tables:
            at, ngrams = table.find(block.hashes(table.size))
            # An n-gram counts once in a row.
            rows, ngrams = _unpaired(np.unique(_paired(row_of_turn[block.texts(at)], ngrams)))
            for chunk in _chunks(rows, table.places.counts(ngrams)):
                source, places = table.places.of(ngrams[chunk])
                yield self._covered(*_unpaired(np.sort(_paired(rows[chunk][source], places))), table.size)

    def _covered(self, rows: Ints, places: Ints, size: int) -> Pairs:
        """How much of each field the n-grams at sorted places cover: each adds what the one before it left."""
        fields = self._field_of_T[places]
        added = np.minimum(np.diff(places, prepend=0), size)
        first = (np.diff(rows, prepend=-1) != 0) | (np.diff(fields, prepend=-1) != 0)
        added[first] = size
        starts = np.flatnonzero(first)
        return rows[starts], fields[starts], np.add.reduceat(added, starts) if len(starts) else starts

    def _whole_fields(self, block: Block, row_of_turn: Ints) -> Iterator[Pairs]:
        found = [np.zeros(0, np.int64)]
        for table in self._tables:
            at, ngrams = table.find(block.hashes(table.size))
            source, places = table.places.of(ngrams)
            at, fields = at[source], self._field_of_T[places]
            fits = at + self._lengths[fields] <= block.num_tokens
            at, fields = at[fits], fields[fits]
            same = block.hashes_at(at, self._lengths[fields]) == self._hashes_of_fields[fields]
            found.append(_paired(row_of_turn[block.texts(at[same])], fields[same]))
        rows, fields = _unpaired(np.unique(np.concatenate(found)))
        yield rows, fields, self._lengths[fields]


class _Lists(NamedTuple):
    """Lists of numbers, one after another; list i is `values[starts[i] : starts[i + 1]]`."""

    values: Ints
    starts: Ints

    def counts(self, some: Ints) -> Ints:
        return self.starts[some + 1] - self.starts[some]

    def of(self, some: Ints) -> tuple[Ints, Ints]:
        """All values of some lists, and for each the position in `some` of its list."""
        counts = self.counts(some)
        source = np.repeat(np.arange(len(some)), counts)
        within = np.arange(len(source)) - np.repeat(np.cumsum(counts) - counts, counts)
        return source, self.values[self.starts[some][source] + within]


class _Table(NamedTuple):
    """The n-grams of one size: their hashes in order, where each stands among the tokens, and the flags of hashes."""

    size: int
    hashes_N: Hashes
    places: _Lists
    flags: NDArray[np.bool_]
    shift: np.uint64

    def find(self, hashes_B: Hashes) -> tuple[Ints, Ints]:
        """Where a block has n-grams of the table, and which, in no order; hashes may lie."""
        # `take` with signed indices, and a search with keys in order: both several times faster than the plain way.
        at = np.flatnonzero(self.flags.take((hashes_B >> self.shift).view(np.int64)))
        at = at[np.argsort(hashes_B[at])]
        ngrams = np.minimum(np.searchsorted(self.hashes_N, hashes_B[at]), len(self.hashes_N) - 1)
        is_here = self.hashes_N[ngrams] == hashes_B[at]
        return at[is_here], ngrams[is_here]


def _make_table(hashes_T: Hashes, places: Ints, size: int) -> _Table:
    hashes = hashes_T[places]
    order = np.argsort(hashes, kind="stable")
    distinct, starts = np.unique(hashes[order], return_index=True)
    # Sixteen flags to an n-gram: one in sixteen others passes.
    bits = min((16 * len(distinct)).bit_length(), MAX_TABLE_BITS)
    shift = np.uint64(64 - bits)
    flags = np.zeros(1 << bits, np.bool_)
    flags[distinct >> shift] = True
    return _Table(size, distinct, _Lists(places[order], np.append(starts, len(places))), flags, shift)


def _interned(some: Sequence[bytes], known: dict[bytes, bytes]) -> Ngram:
    return tuple(known.setdefault(word, word) for word in some)


def _items_of_fields(item_fields: Sequence[Sequence[int]], num_fields: int) -> _Lists:
    fields = np.fromiter(chain.from_iterable(item_fields), np.int64)
    items = np.repeat(np.arange(len(item_fields)), [len(each) for each in item_fields])
    starts = np.append(0, np.cumsum(np.bincount(fields, minlength=num_fields)))
    return _Lists(items[np.argsort(fields, kind="stable")], starts)


def _paired(high: Ints, low: Ints) -> Ints:
    """Two numbers below 2^31 as one, ordered by the first."""
    return high << 32 | low


def _unpaired(pairs: Ints) -> tuple[Ints, Ints]:
    return pairs >> 32, pairs & 0xFFFFFFFF


def _chunks(rows: Ints, costs: Ints) -> Iterator[slice]:
    """Stretches of whole rows that cost at most MAX_POSTINGS together, or are one row."""
    firsts = np.flatnonzero(np.diff(rows, prepend=-1))
    spent = np.append(0, np.cumsum(costs))[np.append(firsts, len(rows))]
    start = 0
    while start < len(firsts):
        end = max(int(np.searchsorted(spent, spent[start] + MAX_POSTINGS, "right")) - 1, start + 1)
        yield slice(firsts[start], firsts[end] if end < len(firsts) else None)
        start = end


def _ngrams(tokens: Sequence[bytes], size: int) -> Iterator[Ngram]:
    return zip(*[tokens[offset:] for offset in range(size)], strict=False)


def _spans(starts: Sequence[int], size: int) -> list[tuple[int, int]]:
    """The stretches, from and up to, that n-grams with some starts cover."""
    spans: list[tuple[int, int]] = []
    for start in starts:
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], start + size)
        else:
            spans.append((start, start + size))
    return spans


def _holds(turn: list[bytes], field: Ngram) -> bool:
    """Whether a turn has the tokens of a field, one after another."""
    size = len(field)
    return any(tuple(turn[start : start + size]) == field for start in range(len(turn) - size + 1))


# --- many rows ---


class Finder:
    """Finds overlaps with items, in this process or in others, each of which is given the index once."""

    def __init__(self, index: Items, num_processes: int = 1, executor: Executor = Executor.LOCAL) -> None:
        self.index = index
        self._processes = Processes(num_processes, _hold, index, executor=executor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._processes.__exit__(*failure)

    def matches(self, prompts: Iterable[Prompt]) -> Iterator[Match]:
        """The overlaps of all rows, numbered from 0, in their order: the same for any number of processes."""
        elsewhere = self._processes.are_elsewhere
        find = _found_by_worker if elsewhere else partial(_found, self.index)
        blocks = _blocks(prompts, CHARACTERS_SENT if elsewhere else BLOCK_CHARACTERS)
        for first, matches in self._processes.map(find, blocks):
            for match in matches:
                yield match._replace(row=match.row + first)


def find_matches(index: Items, prompts: Iterable[Prompt], num_processes: int = 1) -> Iterator[Match]:
    """The overlaps of some rows, by a finder of their own."""
    with Finder(index, num_processes) as finder:
        yield from finder.matches(prompts)


def _blocks(prompts: Iterable[Prompt], num_characters: int) -> Iterator[tuple[int, list[Prompt]]]:
    """Runs of rows of about so many characters, each with the number of its first row."""
    first, size = 0, 0
    block: list[Prompt] = []
    for prompt in prompts:
        block.append(prompt)
        size += sum(map(len, prompt))
        if size >= num_characters:
            yield first, block
            first, size, block = first + len(block), 0, []
    if block:
        yield first, block


def _found(index: Items, block: tuple[int, list[Prompt]]) -> tuple[int, list[Match]]:
    """The overlaps of some rows, which count from the first of them, and its number."""
    first, prompts = block
    found: list[Match] = []
    for start, some in _blocks(prompts, BLOCK_CHARACTERS):
        found += [match._replace(row=match.row + start) for match in index.matches(some)]
    return first, found


_held: list[Items] = []
"""A worker's items."""


def _hold(index: Items) -> None:
    _held[:] = [index]


def _found_by_worker(block: tuple[int, list[Prompt]]) -> tuple[int, list[Match]]:
    return _found(_held[0], block)
