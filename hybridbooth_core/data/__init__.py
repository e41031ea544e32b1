"""Training data: from images to shards (`hybridbooth prepare`), and from shards to examples.

Writing: `folders` and `tars` list images (`items`); `images` decodes and crops them; `masks` makes missing masks; `quality` measures blur;
`samples` decides what is kept; `cache` computes encoder tokens and latents; `manifest` records progress; `prepare` runs all of it.
`shards` defines the layout on disk.
Reading: `order` shuffles, `loading` reads and checks shards, `decode` and `examples` make tensors, `reader` iterates.
"""
