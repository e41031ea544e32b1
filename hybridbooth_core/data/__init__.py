"""Training data: from images to shards (`hybridbooth prepare`), and from shards to examples.

Making: `items` says what an image is before it is read; `folders` and `tars` find images; `images` reads and cuts them, `quality`
measures them, `masks` makes what masks are missing, `samples` judges; `networks` and `cache` compute what frozen networks see; `journal`
remembers what is finished; `prepare` does all of it. `shards` is the layout on disk.
Reading: `order` says which sample comes when, `loading` checks shards, `decode` and `examples` make tensors, `reader` joins all.
"""
