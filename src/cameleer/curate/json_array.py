"""The items of a JSON array, one by one: the array as a whole never has to fit into memory."""

import codecs
import json
import re
from collections.abc import Iterator
from io import BufferedIOBase
from typing import Any

BYTES_PER_READ = 1 << 20

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


class ArrayError(Exception):
    """Text that is not a JSON array; says which item, on which line, and what is wrong."""


def array_items(stream: BufferedIOBase) -> Iterator[Any]:
    """The items of the UTF-8 array in `stream`. Raises ArrayError where it stops being one."""
    text = _Window(stream)
    text.expect("[", "the array's beginning")
    if text.peek() == "]":
        text.expect("]", "the array's end")
    else:
        yield text.item()
        while text.peek() == ",":
            text.expect(",", "a comma")
            yield text.item()
        text.expect("]", "',' or ']'")
    if text.peek():
        raise text.error("text after the array's end")


class _Window:
    """The part of a text that is being parsed, refilled from a stream when parsing meets its end."""

    def __init__(self, stream: BufferedIOBase) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._at = 0
        self._lines_before = 0
        self._items = 0

    def peek(self) -> str:
        """The next character that is no space, or an empty string at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            assert space is not None
            self._at = space.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._refill():
                return ""

    def expect(self, character: str, meaning: str) -> None:
        found = self.peek()
        if found != character:
            raise self.error(f"expected {meaning}, found {found!r}" if found else f"the file ends before {meaning}")
        self._at += 1

    def item(self) -> Any:
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except RecursionError:
                raise self.error("nested too deeply") from None
            except ValueError as failure:
                # It may only be cut off here; what fails with the whole text in view is wrong.
                if not self._refill():
                    at = failure.pos if isinstance(failure, json.JSONDecodeError) else self._at
                    raise self.error(str(failure).partition(":")[0], at) from None
                continue
            # A number that touches the end may have further digits.
            if end < len(self._text) or not self._refill():
                self._at = end
                self._items += 1
                return value

    def error(self, fault: str, at: int | None = None) -> ArrayError:
        """The fault at an index of what is in view; default: where parsing stands."""
        line = self._lines_before + self._text.count("\n", 0, self._at if at is None else at) + 1
        return ArrayError(f"not a JSON array: line {line}, after {self._items} items: {fault}.")

    def _refill(self) -> bool:
        """Drop what was parsed and read on; False at the stream's end."""
        # At least doubling what is in view, or a long item would be parsed again after every few bytes.
        chunk = self._stream.read(max(BYTES_PER_READ, len(self._text) - self._at))
        try:
            new = self._decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as failure:
            raise self.error(f"not UTF-8: {failure.reason}") from None
        self._lines_before += self._text.count("\n", 0, self._at)
        self._text = self._text[self._at :] + new
        self._at = 0
        return bool(chunk)
