"""Devices by name: peak arithmetic, memory, bandwidth, and how much of the peak a plan expects to reach.

`peak` is dense bf16, in operations a second, from the makers' data sheets. A CPU has no such figure: what it reaches is
measured (`benchmarks/plan_vs_measured.py`), and 0.1 TFLOP/s, two server cores in fp32, stands in for it.

`mfu`, the share of the peak that a plan expects, holds everything that a formula does not: communication, short rows,
waiting, checkpoints. For GPUs it is what the published Tülu 3 runs reached, 0.08 (docs/plan.md), which is low and meant
as a price that is not exceeded; measure yours with `benchmarks/sft_gpu.py` and say it with `--mfu`. For a CPU it is the
share of a training step that matrix products take, `peak` being what these reach.
"""

from dataclasses import dataclass

from cameleer.core.errors import UserError, did_you_mean

TERA = 1e12
GPU_MFU = 0.08
GPU_LAYER_SECONDS = 1e-3
"""A layer of a decoding step takes no less, however few its rows: some twenty kernels, launched one by one. Assumed."""
BANDWIDTH_SHARE = 0.6
"""Of the peak bandwidth, reached in decoding. Assumed."""


@dataclass(frozen=True, slots=True)
class Device:
    """One device. `memory_gib` is what can be used of it, None where it is the machine's; `width` the bytes of a number
    in computation."""

    name: str
    peak: float
    memory_gib: float | None
    bandwidth: float
    mfu: float = GPU_MFU
    width: int = 2
    layer_seconds: float = GPU_LAYER_SECONDS
    runtime_gib: float = 1.0
    """What a process takes before it holds anything of a model: libraries, on a GPU its context. Assumed for GPUs."""


_ALL = (
    Device("h200", 989 * TERA, 139, 4.8 * TERA),
    Device("h100", 989 * TERA, 79, 3.35 * TERA),
    Device("h100-pcie", 756 * TERA, 79, 2.0 * TERA),
    Device("a100", 312 * TERA, 79, 2.0 * TERA),
    Device("a100-40g", 312 * TERA, 39, 1.55 * TERA),
    Device("b200", 2250 * TERA, 178, 8.0 * TERA),
    Device("mi300x", 1307 * TERA, 191, 5.3 * TERA),
    Device("l40s", 362 * TERA, 44, 0.86 * TERA),
    Device("rtx4090", 165 * TERA, 23, 1.0 * TERA),
    Device("cpu", 0.1 * TERA, None, 0.02 * TERA, mfu=0.8, width=4, layer_seconds=2e-4, runtime_gib=0.45),
)
DEVICES: dict[str, Device] = {device.name: device for device in _ALL}


def find_device(name: str) -> Device:
    """The device of a name. Raises UserError with the nearest."""
    if name not in DEVICES:
        raise UserError(f"Unknown device '{name}'.{did_you_mean(name, DEVICES)}", f"Known: {', '.join(DEVICES)}.")
    return DEVICES[name]
