"""Published networks that turn an image into words of Stable Diffusion 1.5's text encoder: a first guess where there is no probe.

`files.convert` makes a file of ours from one of theirs, `files.load` reads it, `words.mapper_subject` asks it for a subject.

Axes: B images, L tokens of CLIP's vision transformer, C their width, P numbers of CLIP's shared space, n words, d their width.
"""
