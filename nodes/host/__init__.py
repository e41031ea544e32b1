"""All that HybridBooth knows of ComfyUI's insides: no other package imports `comfy` or `folder_paths`.

`model` shows wired MODEL, CLIP and VAE objects as the core's `DiffusionModel`; `miniature` builds such objects from the miniature's
weights; `subjects` teaches a CLIP a subject's name; `folders` knows where files are; `session` is the run of a node.
`vision` is what probes read images with; `networks` lends a network of the pack the host's device.
"""
