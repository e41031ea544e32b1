"""Run inside a ComfyUI folder by its Python: prints the texts of the pack's schemas as ComfyUI's nodeDefs.json."""
# pyright: reportMissingImports=false

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any


def pack_nodes() -> list[Any]:
    """The node classes, loaded as ComfyUI loads them: the pack as a package, ComfyUI's folder (not the pack's) on the path."""
    sys.path[0] = os.getcwd()
    sys.argv = [sys.argv[0], "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    root = Path(__file__).resolve().parents[2]
    spec = importlib.util.spec_from_file_location("pack", root / "__init__.py", submodule_search_locations=[str(root)])
    assert spec is not None and spec.loader is not None
    pack = sys.modules["pack"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)

    async def listed() -> list[Any]:
        return await (await pack.comfy_entrypoint()).get_node_list()

    return asyncio.run(listed())


def node_texts(schema: Any) -> dict[str, Any]:
    """What the browser shows of a node; the label of an input without a display name is its id in plain words."""
    inputs = {i.id: {"name": i.display_name or i.id.replace("_", " "), "tooltip": i.tooltip} for i in schema.inputs}
    outputs = {str(n): {"name": o.display_name or o.io_type, "tooltip": o.tooltip} for n, o in enumerate(schema.outputs)}
    texts = {"display_name": schema.display_name, "description": schema.description}
    return {**texts, **({"inputs": inputs} if inputs else {}), "outputs": outputs}


if __name__ == "__main__":
    printed = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # whatever ComfyUI prints while it loads
        schemas = [node.GET_SCHEMA() for node in pack_nodes()]
    texts = {schema.node_id: node_texts(schema) for schema in schemas}
    printed.write(json.dumps(texts, indent=2, ensure_ascii=False) + "\n")
