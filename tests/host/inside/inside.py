"""For scripts that run in ComfyUI's own Python and folder: the host's modules on CPU, and the pack loaded the way the host loads it."""
# pyright: reportMissingImports=false

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch


def start() -> ModuleType:
    """Make `comfy` importable without a server, and return the pack, called `pack` here."""
    sys.path[0] = os.getcwd()  # the host's folder in place of this script's; the pack's root must never be on the path
    sys.argv = [sys.argv[0], "--cpu"]
    torch.set_num_threads(1)
    import comfy.options

    comfy.options.enable_args_parsing()
    root = Path(os.path.realpath(__file__)).parents[3]
    spec = importlib.util.spec_from_file_location("pack", root / "__init__.py", submodule_search_locations=[str(root)])
    assert spec is not None and spec.loader is not None
    pack = importlib.util.module_from_spec(spec)
    sys.modules["pack"] = pack
    spec.loader.exec_module(pack)
    return pack


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference, as a share of the largest value of `a`."""
    assert a.shape == b.shape, f"{list(a.shape)} and {list(b.shape)}"
    return float((a.double() - b.double()).abs().max() / a.double().abs().max().clamp_min(1e-30))


def report(results: Any) -> None:
    """Hand the results to the test that ran this script: the last line of what is printed."""
    print(json.dumps(results))
