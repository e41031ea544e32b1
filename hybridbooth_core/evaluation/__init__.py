"""The DreamBooth protocol (Ruiz et al. 2023): subject fidelity and prompt fidelity on real photos.

`protocol` reads the dataset, `making` trains the subjects, `drawing` generates the images, `encoders` and `metrics` compute `scores`, and
`run` combines them into a run that can be stopped and resumed at any time.
"""
