"""Training a probe, by one trainer for all base models. docs/training.md is the manual.

`config` holds every setting; `setup` loads the frozen networks (`context`); `sources` yield batches that depend on the seed and the step
only; `objective` is the loss; `trainer` runs the steps, `distributed` in several processes; `checkpoint` saves and resumes.
"""
