"""Looks at every graph when it is queued: warnings about subjects in prompts reach the browser that queued it."""
# pyright: reportMissingImports=false

from __future__ import annotations

import sys
from typing import Any

from ..graph_check import warnings, without_odd_names
from .notices import notify, running_server


def register_prompt_hook() -> None:
    """Call it once, when the pack is loaded. Without a server (in tests) it does nothing."""
    server = running_server()
    if server is not None:
        server.add_on_prompt_handler(_on_prompt)


def _on_prompt(body: dict[str, Any]) -> dict[str, Any]:
    """ComfyUI hands over the body of POST /prompt, logs what is raised, and goes on with what is returned."""
    graph = body.get("prompt")
    if isinstance(graph, dict) and all(isinstance(node, dict) for node in graph.values()):
        without_odd_names(graph)
        extra = body.get("extra_data") or {}
        for node_id, sentence in warnings(graph, _output_type, (extra.get("extra_pnginfo") or {}).get("workflow")):
            notify(sentence, node_id, body.get("client_id"))
    return body


def _output_type(class_type: str, slot: int) -> str:
    host_nodes = sys.modules["nodes"]  # ComfyUI's own module; here the name would mean this package
    kinds = getattr(host_nodes.NODE_CLASS_MAPPINGS.get(class_type), "RETURN_TYPES", ())
    return str(kinds[slot]) if 0 <= slot < len(kinds) else ""
