"""The DreamBooth protocol (Ruiz et al. 2023): how well a personalised model keeps a subject and follows its prompts, on real photos.

`protocol` reads the dataset, `encoders` loads what looks at images, `metrics` holds the formulas, `drawing` makes the images,
`scores` measures them, and `run` does all of it so that it can be stopped and continued at any time.
"""
