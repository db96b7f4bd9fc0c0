"""Counts what sampling packs on a CPU and what it multiplies with it."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


class PackedOperations(TorchDispatchMode):
    packed = 0
    multiplied = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.packed += func._schema.name == "mkldnn::_reorder_linear_weight"
        self.multiplied += func._schema.name == "mkldnn::_linear_pointwise"
        return func(*args, **(kwargs or {}))
