"""Networks of Stable Diffusion 1.5's size on a CPU, at the processor's own speed.

PyTorch's float32 path costs several times the arithmetic there. `FastProducts` routes wide layers to faster products and `kept_memory`
keeps freed memory with the process; results agree to rounding. Nothing of a model is changed: both last as long as they are open.
"""

from __future__ import annotations

from .memory import kept_memory
from .routes import FastProducts

__all__ = ["FastProducts", "kept_memory"]
