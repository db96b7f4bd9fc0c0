"""What a process used of its machine, and what it says when there is no more."""

import resource
import sys
from collections.abc import Generator
from contextlib import contextmanager

import torch

from cameleer.core.errors import UserError

CPU_OUT_OF_MEMORY = "can't allocate memory"


def peak_memory_gib(device: torch.device) -> float:
    """Most memory held so far, in GiB: allocated on a GPU, resident (which includes mapped files) on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    # ru_maxrss counts KiB on Linux and bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


@contextmanager
def memory_named(stage: str, hint: str) -> Generator[None]:
    """Memory that runs out, a GPU's or the machine's, as a UserError of the stage; `hint` says what to do."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as failure:
        # A CPU's allocator has no error of its own.
        if not isinstance(failure, torch.OutOfMemoryError | MemoryError) and CPU_OUT_OF_MEMORY not in str(failure):
            raise
        raise UserError(f"{stage}: out of memory: {failure}", hint) from None
