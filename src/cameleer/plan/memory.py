"""What one device holds at the worst moment, in bytes by part, as the code lays it out.

    weights      4 N / R                      fp32 masters, N trained weights over R ranks (FSDP2)
    gradients    4 N / R
    optimizer    8 N / R                      AdamW's two means
    gathered     w (2 layers + tables) + (4 + w) × 1 layer      where weights are sharded or computed in w < 4 bytes:
                                              whole copies of the layer at work and the next, of embedding and head,
                                              and one layer's gradient before and after its reduction
    activations  T × (L + 1) × per token and layer              T tokens of a micro-batch; the layer more is backward's.
                 checkpointing: T × (L × w D + 2 × per token and layer)
    head         a chunk of logits (at most CHUNK), the states that it starts from, the whole gradient of the matrix
    others       what the stage keeps besides: reference, value model, the copy that samples, keys and values. What a
                 CPU's sampling packs is gone before a step of reinforcement learning trains, which takes more
    runtime      libraries, on a GPU the context

Weights that are sharded are read by rank 0 alone, into its host's memory, and gathered there to be saved: 4 N in fp32
and 2 N for the bf16 that is written. On a CPU the parts are resident pages of the process; the weights' file is mapped,
and its pages become the weights'.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cameleer.core.training import TrainingConfig
from cameleer.plan.machine import Machine, Sampled
from cameleer.plan.shapes import Shape

GIB = 2**30
CHUNK_BYTES = 96 << 20
"""`cameleer.model.logprobs` holds no more logits in fp32; a test keeps the two equal."""
FP32, BF16 = 4, 2


@dataclass(frozen=True)
class Memory:
    """Bytes of one device by part; and of rank 0's host while sharded weights are read or saved."""

    parts: Mapping[str, float] = field(default_factory=dict[str, float])
    host: float = 0.0

    @property
    def peak(self) -> float:
        return sum(self.parts.values())

    @property
    def peak_gib(self) -> float:
        return self.peak / GIB


@dataclass(frozen=True, slots=True)
class Step:
    """An optimizer step over all devices: its tokens, its longest row (a tree of segments, which has a micro-batch to
    itself where it exceeds the budget), and the share of tokens whose logits are computed, 0 under a scalar head."""

    tokens: float
    longest_row: float
    target_share: float


def training_memory(
    shape: Shape, config: TrainingConfig, machine: Machine, step: Step, others: Mapping[str, float] | None = None
) -> Memory:
    """Training of a shape; `others` is what the stage holds besides."""
    device, ranks = machine.device, machine.devices
    trained = lora_weights(shape, config) if config.lora is not None else shape.weights
    tokens = max(min(config.tokens_per_batch, step.tokens / ranks), step.longest_row)
    parts = {
        "weights": FP32 * shape.weights / ranks + (FP32 * trained / ranks if config.lora is not None else 0),
        "gradients": FP32 * trained / ranks,
        "optimizer": 2 * FP32 * trained / ranks,
        "gathered": gathered_bytes(shape, machine),
        "activations": activation_bytes(shape, device.width, tokens, config.gradient_checkpointing),
        "head": head_bytes(shape, device.width, step.target_share * tokens),
        **(others or {}),
        "runtime": device.runtime_gib * GIB,
    }
    is_sharded = ranks > 1 or device.width < FP32
    host = (FP32 + BF16) * shape.weights if is_sharded else 0.0
    return Memory({name: size for name, size in parts.items() if size}, host)


def lora_weights(shape: Shape, config: TrainingConfig) -> int:
    """Parameters of adapters on every matrix of the layers."""
    assert config.lora is not None
    query, key = shape.heads * shape.head_dim, shape.key_heads * shape.head_dim
    sides = 2 * (shape.hidden + query) + 2 * (shape.hidden + key) + 3 * (shape.hidden + shape.mlp)
    return config.lora.rank * shape.layers * sides


def gathered_bytes(shape: Shape, machine: Machine) -> float:
    """Whole copies of weights that live while they are used."""
    width = machine.device.width
    if machine.devices == 1 and width == FP32:
        return 0.0
    return width * (2 * shape.layer_weights + shape.table_weights) + (FP32 + width) * shape.layer_weights


def activation_bytes(shape: Shape, width: int, tokens: float, checkpointing: bool) -> float:
    """What a micro-batch's forward pass leaves for backward, and what backward works with."""
    layer = shape.activation_bytes(width)
    if checkpointing:
        return tokens * (shape.layers * width * shape.hidden + 2 * layer)
    return tokens * (shape.layers + 1) * layer


def head_bytes(shape: Shape, width: int, targets: float) -> float:
    """The loss head: none where a scalar head reads the states."""
    if not targets:
        return 0.0
    logits = min(FP32 * shape.vocabulary * targets, CHUNK_BYTES)
    copies = 1 if width == FP32 else 1 + width / FP32
    return copies * logits + 2 * width * shape.hidden * targets + FP32 * shape.vocabulary * shape.hidden


def sampling_memory(shape: Shape, machine: Machine, sampled: Sampled, devices: int) -> Memory:
    """Sampling alone, from a whole model on each device, on a CPU with the copies that `model.products` packs."""
    parts = {
        "weights": machine.device.width * shape.weights,
        "packed": FP32 * shape.weights if machine.device.name == "cpu" else 0.0,
        "cache": cache_bytes(shape, machine, sampled, devices),
        "runtime": machine.device.runtime_gib * GIB,
    }
    return Memory({name: size for name, size in parts.items() if size})


def cache_bytes(shape: Shape, machine: Machine, sampled: Sampled, devices: int) -> float:
    """Keys and values of what runs at once, at mean lengths. The sampler's budget bounds it; what waits is computed
    again."""
    length = sampled.prompt + sampled.answer
    return sampled.rows(devices) * length * shape.cache_bytes(machine.device.width)
