"""What of the pack can be checked without ComfyUI: its shape, its texts, its workflows."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NODES = ROOT / "nodes"
TEXTS = {language: json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text()) for language in ("en", "zh")}
HOST_MODULES = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "nodes", "server", "execution"}


def _imports(path: Path) -> set[str]:
    """The top-level names that a file imports absolutely."""
    tree = ast.parse(path.read_text())
    plain = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    from_ = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 0}
    return {name.partition(".")[0] for name in plain | from_}


def test_only_the_host_package_knows_the_insides_of_comfyui():
    for path in [*NODES.rglob("*.py"), *(ROOT / "hybridbooth_core").rglob("*.py")]:
        allowed = HOST_MODULES - {"nodes"} if NODES / "host" in path.parents else {"comfy_api"} if NODES in path.parents else set()
        assert not (_imports(path) & HOST_MODULES) - allowed, path


def test_the_core_and_the_nodes_are_imported_relatively():
    for path in [*NODES.rglob("*.py"), *(ROOT / "hybridbooth_core").rglob("*.py")]:
        assert "hybridbooth_core" not in _imports(path), f"{path} would import another copy inside ComfyUI"


def test_nodes_are_thin():
    for path in NODES.glob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef) and function.name == "execute":
                assert (function.end_lineno or 0) - function.lineno <= 20, f"execute in {path}"


def test_the_root_does_nothing_without_comfyui():
    script = (
        "import importlib.util, sys; sys.modules.pop('torch', None);"
        f"spec = importlib.util.spec_from_file_location('pack', {str(ROOT / '__init__.py')!r}, submodule_search_locations=[{str(ROOT)!r}]);"
        "pack = importlib.util.module_from_spec(spec); spec.loader.exec_module(pack);"
        "assert not hasattr(pack, 'comfy_entrypoint') and 'torch' not in sys.modules, 'the root imports something heavy'"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT.parent)


def _keys(texts: dict) -> set[tuple[str, ...]]:
    """The paths to all leaves of nested tables."""
    return {(key, *rest) for key, value in texts.items() for rest in (_keys(value) if isinstance(value, dict) else [()])}


def test_the_translations_have_the_same_keys():
    assert _keys(TEXTS["en"]) == _keys(TEXTS["zh"])


def _leaves(texts: dict) -> list[str]:
    return [leaf for value in texts.values() for leaf in (_leaves(value) if isinstance(value, dict) else [value])]


@pytest.mark.parametrize("language", TEXTS)
def test_texts_hold_no_syntax_of_the_browser(language: str):
    for text in _leaves(TEXTS[language]):
        assert text and not set("{}@|") & set(text), f"the browser's translations would read syntax in {text!r}"


def test_every_node_has_a_help_page_and_every_page_a_node():
    assert {path.stem for path in (ROOT / "web" / "docs").glob("*.md")} == set(TEXTS["en"])


@pytest.mark.parametrize("path", sorted((ROOT / "workflows").glob("*.json")), ids=lambda path: path.stem)
def test_a_workflow_is_whole(path: Path):
    workflow = json.loads(path.read_text())
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for link, source, slot, target, entry, kind in workflow["links"]:
        assert link in nodes[source]["outputs"][slot]["links"] and nodes[source]["outputs"][slot]["type"] == kind
        assert nodes[target]["inputs"][entry]["link"] == link
    own = {node["type"] for node in nodes.values() if node["type"].startswith("HybridBooth_")}
    assert own <= set(TEXTS["en"])


def test_the_managers_scanner_finds_every_node():
    """ComfyUI-Manager reads the source: an id counts if it is written out in a class on ComfyNode, as Schema(node_id="...")."""
    found = set()
    for path in NODES.glob("*.py"):
        for body in re.split(r"^class ", path.read_text(), flags=re.MULTILINE)[1:]:
            if re.match(r"\w+\((?:\w+\.)*ComfyNode\)", body):
                found |= set(re.findall(r"\bSchema\(\s*node_id=\"([^\"]+)\"", body))
    assert found == set(TEXTS["en"])
