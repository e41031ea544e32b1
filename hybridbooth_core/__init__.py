"""HybridBooth: a subject of your photo in Stable Diffusion 1.5, as five token embeddings. Start at `HybridBooth.load`; see docs/python.md.

Importing this package imports nothing heavy: each name below is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from .api import HybridBooth as HybridBooth
    from .bases import Base as Base
    from .bases import load_base as load_base
    from .errors import UserError as UserError
    from .files.adapter_weights import AdapterWeights as AdapterWeights
    from .files.subject import Subject as Subject
    from .files.subject import SubjectInfo as SubjectInfo
    from .methods.registry import METHODS as METHODS
    from .methods.registry import load_artefact as load_artefact
    from .probe.probe import Probe as Probe
    from .probe.probe import ProbeConfig as ProbeConfig
    from .refine.config import RefineConfig as RefineConfig

_HOMES = {
    "HybridBooth": "api",
    "Base": "bases",
    "load_base": "bases",
    "UserError": "errors",
    "AdapterWeights": "files.adapter_weights",
    "Subject": "files.subject",
    "SubjectInfo": "files.subject",
    "METHODS": "methods.registry",
    "load_artefact": "methods.registry",
    "Probe": "probe.probe",
    "ProbeConfig": "probe.probe",
    "RefineConfig": "refine.config",
}
__all__ = [
    "METHODS",
    "AdapterWeights",
    "Base",
    "HybridBooth",
    "Probe",
    "ProbeConfig",
    "RefineConfig",
    "Subject",
    "SubjectInfo",
    "UserError",
    "load_artefact",
    "load_base",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
