"""What a process used of its machine."""

import resource
import sys

import torch


def peak_memory_gib(device: torch.device) -> float:
    """Most memory held so far, in GiB: allocated on a GPU, resident (which includes mapped files) on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    # ru_maxrss counts KiB on Linux and bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
