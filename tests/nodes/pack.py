"""The node pack without ComfyUI: those of its modules that need none, imported as parts of a package, as ComfyUI does."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
NAME = "hybridbooth_pack"


def pack_module(name: str) -> ModuleType:
    """A module of `nodes` that imports nothing of ComfyUI, such as "errors"."""
    if NAME not in sys.modules:
        spec = importlib.util.spec_from_file_location(NAME, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
        assert spec is not None and spec.loader is not None
        sys.modules[NAME] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[NAME])
    return importlib.import_module(f"{NAME}.nodes.{name}")
