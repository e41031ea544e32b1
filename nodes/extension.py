"""The list of nodes that ComfyUI asks for."""
# pyright: reportMissingImports=false

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io


class HybridBooth(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return []
