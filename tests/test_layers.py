"""The rooms of the library stand on layers, and an import goes down: to a lower layer, or within the same room."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = "hybridbooth_core"
LAYERS = [
    {"errors"},
    {"models"},
    {"files"},
    {"probe"},
    {"encoders"},
    {"refine", "mappers"},
    {"report", "probe_free"},
    {"methods"},
    {"evaluation"},
    {"data"},
    {"training"},
    {"miniature"},
    {"bases"},
    {"api"},
    {"cli"},
]
FACES = {"__main__"}  # what `python -m` runs, in any room
HEIGHT = {room: height for height, rooms in enumerate(LAYERS) for room in rooms}


def imports_of(source: str, package: list[str]) -> set[str]:
    """The modules of the library that a file imports, anywhere in it, as dotted names within the library."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            module = [*start, *(node.module.split(".") if node.module else [])]
            names = [[*module, alias.name] for alias in node.names] if len(module) == 1 else [module]
            found |= {".".join(name[1:]) for name in names if name[0] == CORE and len(name) > 1}
        elif isinstance(node, ast.Import):
            found |= {alias.name[len(CORE) + 1 :] for alias in node.names if alias.name.startswith(f"{CORE}.")}
    return {name for name in found if name.split(".")[0] in HEIGHT}


def upward(module: list[str], source: str) -> list[str]:
    """The imports of a module that run up, or sideways between two rooms of one layer."""
    room = module[1]
    wrong = []
    for name in imports_of(source, module[:-1]):
        other = name.split(".")[0]
        if other != room and HEIGHT[other] >= HEIGHT[room]:
            wrong.append(f"{'.'.join(module)} imports {name}")
    return wrong


def modules() -> list[tuple[list[str], str]]:
    files = sorted((ROOT / CORE).rglob("*.py"))
    names = [[CORE, *path.relative_to(ROOT / CORE).with_suffix("").parts] for path in files]
    return [(name, path.read_text(encoding="utf-8")) for name, path in zip(names, files, strict=True) if len(name) > 2 or name[1] in HEIGHT]


def test_every_room_has_a_layer():
    rooms = {path.stem for path in (ROOT / CORE).iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms <= set(HEIGHT) and set(HEIGHT) <= rooms | {"errors", "api"}


def test_imports_go_down():
    wrong = [line for module, source in modules() if module[-1] not in FACES for line in upward(module, source)]
    assert wrong == []


@pytest.mark.parametrize(
    ("module", "source", "count"),
    [
        ("models.memory", "from ..refine.refine import refine", 1),
        ("models.memory", "def f():\n    from ..bases import load_base", 1),
        ("report.page", "from ..probe_free import nouns", 1),
        ("training.setup", "import hybridbooth_core.miniature.bundle", 1),
        ("files.subject", "from .. import api", 1),
        ("files.subject", "from ..models.adapter import x\nfrom .safetensors import y\nimport torch\nfrom .. import __version__", 0),
        ("data.cache", "from hybridbooth_core.cli import main", 1),
    ],
)
def test_an_arrow_that_runs_up_is_seen(module, source, count):
    assert len(upward([CORE, *module.split(".")], source)) == count


def test_the_core_knows_no_host():
    hosts = ("comfy", "folder_paths", "server", "execution")
    for module, source in modules():
        names = [alias.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import) for alias in node.names]
        names += [node.module or "" for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and not node.level]
        assert not [name for name in names if name.split(".")[0] in hosts], module
