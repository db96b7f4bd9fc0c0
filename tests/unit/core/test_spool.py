from pathlib import Path

import pytest

from cameleer.core.spool import Spool, decode, encode
from cameleer.core.types import Message

CONVERSATIONS = [
    (Message("user", "a"), Message("assistant", "b")),
    (Message("system", ""), Message("user", "1,2 3\nuser 4"), Message("assistant", "\x00é😀\u2028\r\n")),
    (Message("user", "a"), Message("assistant", "b" * 100_000)),
]


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_a_record_decodes_to_its_conversation(conversation: tuple[Message, ...]) -> None:
    assert decode(encode(conversation)) == conversation


def test_conversations_that_differ_only_in_their_turns_bounds_have_other_records() -> None:
    assert encode((Message("user", "ab"), Message("assistant", "c"))) != encode(
        (Message("user", "a"), Message("assistant", "bc"))
    )
    assert encode((Message("user", "a"),)) != encode((Message("assistant", "a"),))


def test_half_a_surrogate_pair_has_no_record() -> None:
    with pytest.raises(UnicodeEncodeError):
        encode((Message("user", "\ud83d"),))


def test_records_are_read_in_any_order_between_writes_and_leave_no_file(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    first = spool.append(b"first")
    assert spool.read(first) == b"first"
    second = spool.append(b"")
    third = spool.append(b"third")
    assert [spool.read(place) for place in (third, first, second)] == [b"third", b"first", b""]
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_records_written_after_some_were_read_are_read_back(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    first = [spool.append(b"a" * 300), spool.append(b"b" * 200)]
    assert spool.read(first[0]) == b"a" * 300
    second = [spool.append(b"c" * 100), spool.append(b"d" * 50)]
    assert [spool.read(place) for place in (*first, *second)] == [b"a" * 300, b"b" * 200, b"c" * 100, b"d" * 50]
    spool.close()
