"""The nodes: thin faces of `hybridbooth_core`. `nodes.host` alone knows ComfyUI's insides."""
