"""Words of a subject without a probe: a noun and attributes from a list, changed until CLIP reads the image in them.

Axes: B texts or images, P numbers of CLIP's shared space, n words, d their width.
"""
