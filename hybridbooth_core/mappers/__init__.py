"""Initial token embeddings from published networks (ELITE, Pic2Word, SEARLE, LinCIR), without a probe.

`files.convert` converts a published file to this pack's format, `files.load` reads it, `predict.mapper_subject` predicts a subject.

Axes: B images, L tokens of CLIP's vision transformer, C their width, P width of CLIP's joint space, n token embeddings, d their width.
"""
