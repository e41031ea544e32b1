"""Subjects without a probe: initial embeddings from CLIP (noun retrieval and textual inversion), then refinement steps.

Axes: B texts or images, P width of CLIP's joint space, n token embeddings, d their width.
"""
