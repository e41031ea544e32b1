"""Words of a subject without a probe: a noun and attributes from a list, changed until CLIP reads the picture in them.

Axes: B texts or pictures, P numbers of CLIP's shared space, n words, d their width.
"""
