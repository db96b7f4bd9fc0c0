"""Files of the web: fetched once into Cameleer's cache and read from there.

    https://host/path/rows.jsonl.gz                what the address gave when it was first read
    https://host/path/rows.jsonl.gz#sha256=HEX     that content and no other

An address with its digest is written as pip writes those of archives. Without one, a copy in the cache stands until it
is removed there; the manifest of what is made from it has its digest either way.
"""

import re
import tempfile
import time
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path, PurePath, PurePosixPath
from urllib.parse import unquote, urldefrag, urlsplit

from cameleer.core.cache import cache_folder
from cameleer.core.digest import digest_path
from cameleer.core.errors import UserError
from cameleer.core.log import console, ticker

ATTEMPTS = 3
PAUSE_SECONDS = 2.0
"""Before the second attempt; doubled before each further one."""
TIMEOUT_SECONDS = 60.0
"""Without a byte."""
MEBIBYTE = 1 << 20
SHOWN_BYTES = 16 * MEBIBYTE
"""From this size on, progress is shown."""
ASK_AGAIN = (408, 429)
"""Refusals that are for the moment."""
PIN = re.compile("sha256=([0-9a-fA-F]{64})")


def is_address(reference: str) -> bool:
    """Whether a reference to a file is an address of the web."""
    return reference.startswith(("http://", "https://"))


def address_name(address: str) -> str:
    """The name of the file at an address."""
    return PurePosixPath(unquote(urlsplit(address).path)).name


def file_stem(reference: str) -> str:
    """The name of a file, given by its path or its address, without what its ending says of its format."""
    name = address_name(reference) if is_address(reference) else PurePath(reference).name
    return PurePath(name.removesuffix(".gz")).stem


def checked_address(address: str) -> tuple[str, str | None]:
    """The address without its pin, and the digest that it is pinned to. Raises UserError for what can be neither."""
    place, fragment = urldefrag(address)
    pin = PIN.fullmatch(fragment)
    if fragment and pin is None:
        raise UserError(f"{address}: #{fragment} is no digest.", "Write #sha256= and its 64 hexadecimal digits.")
    if not address_name(address):
        raise UserError(f"{address}: the address names no file.")
    return place, pin[1].lower() if pin else None


def copy_of(address: str) -> Path:
    """Where the cache keeps the file at an address, fetched yet or not."""
    place = urldefrag(address).url
    return cache_folder() / "web" / sha256(place.encode()).hexdigest()[:16] / address_name(address)


def fetch(address: str) -> Path:
    """The cache's copy of the file at an address. Raises UserError if it cannot be had or is not the pinned one."""
    place, expected = checked_address(address)
    target, name = copy_of(address), address_name(address)
    if target.is_file() and (expected is None or digest_path(target) == expected):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".draft-", dir=target.parent) as workplace:
        draft = Path(workplace) / name
        _download(place, draft)
        found = digest_path(draft)
        if expected not in (None, found):
            raise UserError(
                f"{place} is not the file that is asked for: SHA-256 {found}, expected {expected}.",
                "It was changed there, or the pin is of another file.",
            )
        draft.replace(target)
    if expected is None:
        console.print(f"{place}: fetched; to pin it write {place}#sha256={found}", markup=False, soft_wrap=True)
    return target


def _download(place: str, draft: Path) -> None:
    # Here and not above: reading a recipe needs none of it.
    import httpx

    # As it is: a server that compresses on the way would give other bytes than it has.
    headers = {"Accept-Encoding": "identity"}
    for attempt in range(ATTEMPTS):
        try:
            with httpx.stream("GET", place, headers=headers, follow_redirects=True, timeout=TIMEOUT_SECONDS) as reply:
                if 400 <= reply.status_code < 500 and reply.status_code not in ASK_AGAIN:
                    raise UserError(f"{place} cannot be fetched: status {reply.status_code}.", "Check the address.")
                reply.raise_for_status()
                _write(reply.iter_raw(MEBIBYTE), draft, int(reply.headers.get("content-length", 0)))
            return
        except (httpx.HTTPError, httpx.InvalidURL) as failure:
            if attempt + 1 == ATTEMPTS or isinstance(failure, httpx.InvalidURL):
                why = (str(failure).splitlines() or [type(failure).__name__])[0]
                raise UserError(f"{place} cannot be fetched: {why}", "Check the address and the network.") from None
            time.sleep(PAUSE_SECONDS * 2**attempt)


def _write(pieces: Iterable[bytes], draft: Path, size: int) -> None:
    label = f"fetch {draft.name} (MiB)"
    with draft.open("wb") as file, ticker(label, max(size // MEBIBYTE, 1), shown=size >= SHOWN_BYTES) as progress:
        written = 0
        for piece in pieces:
            file.write(piece)
            progress.advance((written + len(piece)) // MEBIBYTE - written // MEBIBYTE)
            written += len(piece)
