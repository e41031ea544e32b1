"""Notices that reach the user while a node runs or a prompt is queued: a toast in the browser, text on the node, a console line."""
# pyright: reportMissingImports=false

from __future__ import annotations

import logging
import sys
from typing import Any

from comfy_execution.utils import get_executing_context

log = logging.getLogger("hybridbooth")
EVENT = "hybridbooth.notice"  # web/notices.js shows it


def notify(text: str, node_id: str | None = None, client_id: str | None = None) -> None:
    """Shows a sentence to the user whose prompt runs.

    Args:
        node_id: the node that it is about; by default the one that is running.
        client_id: the browser to show it in; by default the one whose prompt runs.
    """
    context = get_executing_context()
    if node_id is None and context is not None:
        node_id = context.node_id
    log.warning("%s", text)
    server = running_server()
    if server is not None:
        server.send_sync(EVENT, {"text": text, "node": node_id}, client_id or server.client_id)


def show_text(text: str) -> None:
    """Shows a line on the node that is running; it stays there."""
    context, server = get_executing_context(), running_server()
    if context is not None and server is not None:
        server.send_progress_text(text, context.node_id, server.client_id)


def running_server() -> Any:
    """ComfyUI's server, or None where only its library is loaded."""
    return getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
