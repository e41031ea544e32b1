"""The only package that imports `comfy` or `folder_paths`.

`model` wraps MODEL, CLIP and VAE as the core's `DiffusionModel`, and `text_model` a CLIP as its `TextModel`; `miniature` builds MODEL,
CLIP and VAE from the miniature's weights; `subjects` adds subjects to a CLIP's tokenizer; `vision` provides the image encoders; `networks`
runs the pack's networks under ComfyUI's memory management; `folders` finds files; `session` handles inference mode and progress.
"""
