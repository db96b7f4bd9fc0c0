r"""Words as overlaps and near-duplicates compare them: lower case, cut at white space, zero bytes and `,.?!:;()"-\`.

The rule is that of Tülu 3's decontamination (allenai/open-instruct, decontamination/index.py), for both sides. Other
characters stay, so `x+1` is a word and `x+2` another. Words are UTF-8 bytes, which are cut and hashed fastest.

    composed(text)   Unicode normalisation form C
    plain(text)      \r\n and \r are \n; other control characters but tab and newline are gone, and what marks the
                     beginning of a file (U+FEFF)
"""

import re
import string
import unicodedata
from collections.abc import Sequence

SEPARATORS = ',.?!:;()"-\\'
END = b"\x00"
"""A word that no text has: it ends each text in a run of several."""

_CUT = SEPARATORS.encode() + string.whitespace.encode() + b"\x1c\x1d\x1e\x1f"
_TABLE = bytes.maketrans(string.ascii_uppercase.encode() + _CUT, string.ascii_lowercase.encode() + b" " * len(_CUT))
_LINE_ENDS = re.compile("\r\n?")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff]")


def composed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def plain(text: str) -> str:
    return _CONTROL.sub("", _LINE_ENDS.sub("\n", text))


def closed(texts: Sequence[str]) -> bytes:
    """The words of some texts with spaces alone between and about them, END after those of each text."""
    # Bytes know neither the case nor the white space of other scripts.
    lower = [text if text.isascii() else " ".join(text.lower().split()) for text in texts]
    end = END.decode()
    joined = end.join((*lower, ""))
    if joined.count(end) != len(texts):
        joined = end.join([text.replace(end, " ") for text in lower] + [""])
    return joined.encode("utf-8", "surrogatepass").translate(_TABLE).replace(END, b" " + END + b" ")


def words(text: str) -> list[bytes]:
    """The words of a text."""
    return closed((text,)).split()[:-1]


def readable(some: Sequence[bytes]) -> str:
    """Words as a text."""
    return b" ".join(some).decode("utf-8", "replace")
