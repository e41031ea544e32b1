"""ComfyUI's entry point of HybridBooth. Without ComfyUI around it (in pytest, say) this file does nothing."""

from importlib.util import find_spec

WEB_DIRECTORY = "./web"

if find_spec("comfy_api") is not None:

    async def comfy_entrypoint():
        """The extension with all nodes; the host calls this once at its start."""
        from .nodes.extension import HybridBooth

        return HybridBooth()
