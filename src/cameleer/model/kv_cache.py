"""Keys and values of sequences that share a batch, in slots of a few sizes.

A `SlotCache` holds sequences of up to `capacity` tokens: for each layer one tensor (S, K, C, D) of S slots, K key
heads, C tokens, D dimensions. The used slots are always the first ones: whoever leaves is replaced by the last, so
attention reads a plain slice. A `Store` has one such cache per size; a sequence that outgrows its slot moves to the
next size, half of which it fills by then. Memory is what the slots reserve, bounded by the budget of the store's
`Memory`; pages of a slot that nothing was written to cost nothing on a CPU.
"""

from dataclasses import dataclass, field

from torch import Tensor

SMALLEST_CAPACITY = 64
GROWTH = 2
"""Each size of slot holds so many times the tokens of the one before."""


@dataclass(eq=False)
class Sequence:
    """A run of tokens whose keys and values are kept: `length` of them so far, the first at position `start`."""

    start: int = 0
    length: int = 0
    cache: "SlotCache | None" = None
    slot: int = -1


@dataclass
class Memory:
    """How many tokens all caches together may reserve, and how many they do."""

    budget: int
    reserved: int = 0

    @property
    def free(self) -> int:
        return self.budget - self.reserved


@dataclass(eq=False)
class SlotCache:
    """The slots of one size. `owners[s]` holds slot s."""

    capacity: int
    memory: Memory
    owners: list[Sequence] = field(default_factory=list[Sequence])
    keys: dict[int, Tensor] = field(default_factory=dict[int, Tensor])
    values: dict[int, Tensor] = field(default_factory=dict[int, Tensor])
    num_slots: int = 0

    def has_room(self) -> bool:
        """Whether one more sequence fits, by making slots if the budget allows it."""
        if len(self.owners) == self.num_slots:
            self._resize(self.num_slots + min(max(1, self.num_slots), self.memory.free // self.capacity))
        return len(self.owners) < self.num_slots

    def trim(self) -> None:
        """Give up the slots that nobody holds."""
        if len(self.owners) < self.num_slots:
            self._resize(len(self.owners))
            for tensors in (self.keys, self.values):
                for layer, tensor in list(tensors.items()):
                    tensors[layer] = tensor[: self.num_slots].clone()

    def _resize(self, num_slots: int) -> None:
        self.memory.reserved += (num_slots - self.num_slots) * self.capacity
        self.num_slots = num_slots

    def add(self, sequence: Sequence) -> None:
        """Give a sequence the next slot; `has_room` has said that there is one."""
        assert len(self.owners) < self.num_slots, "no room: ask has_room first"
        sequence.cache, sequence.slot = self, len(self.owners)
        self.owners.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Free a sequence's slot: the last one's content moves there."""
        last = self.owners.pop()
        if last is not sequence:
            # What nothing was written of may have no place in the tensors yet.
            for tensors in (self.keys, self.values) if last.length else ():
                for tensor in tensors.values():
                    tensor[sequence.slot, :, : last.length] = tensor[last.slot, :, : last.length]
            self.owners[sequence.slot] = last
            last.slot = sequence.slot
        sequence.cache, sequence.slot = None, -1

    def write(self, layer: int, key_NKD: Tensor, value_NKD: Tensor, slot_N: Tensor, place_N: Tensor) -> None:
        """Put the keys and values of N tokens at their slots and places."""
        self.tensor(self.keys, layer, key_NKD)[slot_N, :, place_N] = key_NKD
        self.tensor(self.values, layer, value_NKD)[slot_N, :, place_N] = value_NKD

    def tensor(self, tensors: dict[int, Tensor], layer: int, like_NKD: Tensor) -> Tensor:
        """A layer's tensor with all slots, made or made larger when it is first needed. Zeros, since 0 · NaN is NaN."""
        old = tensors.get(layer)
        if old is None or len(old) < self.num_slots:
            _, heads, size = like_NKD.shape
            tensors[layer] = like_NKD.new_zeros(self.num_slots, heads, self.capacity, size)
            if old is not None:
                tensors[layer][: len(old)] = old
        return tensors[layer]

    def copy_from(self, other: "SlotCache", slot: int, sequence: Sequence) -> None:
        """Copy what `other` holds of a sequence in a slot into the sequence's slot here."""
        for mine, theirs in ((self.keys, other.keys), (self.values, other.values)):
            for layer, tensor in theirs.items():
                kept = tensor[slot, :, : sequence.length]
                self.tensor(mine, layer, kept.transpose(0, 1))[sequence.slot, :, : sequence.length] = kept


class Store:
    """Slots of all sizes for sequences of one kind."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._caches: dict[int, SlotCache] = {}

    @property
    def caches(self) -> list[SlotCache]:
        """The caches that hold a sequence, small slots first."""
        return [cache for _, cache in sorted(self._caches.items()) if cache.owners]

    def make_room(self, sequence: Sequence, length: int) -> bool:
        """Let a sequence have room for `length` tokens; False, and nothing changed, if the budget does not allow it."""
        old, old_slot = sequence.cache, sequence.slot
        if old is not None and length <= old.capacity:
            return True
        capacity = capacity_for(length)
        cache = self._caches.setdefault(capacity, SlotCache(capacity, self._memory))
        if not cache.has_room():
            return False
        cache.add(sequence)
        if old is not None:
            cache.copy_from(old, old_slot, sequence)
            new_slot, sequence.slot = sequence.slot, old_slot
            old.remove(sequence)
            sequence.cache, sequence.slot = cache, new_slot
        return True

    def remove(self, sequence: Sequence) -> None:
        """Forget what is kept of a sequence."""
        if sequence.cache is not None:
            sequence.cache.remove(sequence)
        sequence.length = 0

    def trim(self) -> None:
        """Give up all slots that nobody holds."""
        for cache in self._caches.values():
            cache.trim()


def capacity_for(length: int) -> int:
    """The size of the slot that a sequence of so many tokens gets."""
    capacity = SMALLEST_CAPACITY
    while capacity < length:
        capacity *= GROWTH
    return capacity
