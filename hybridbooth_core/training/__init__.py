"""Training a probe: one trainer for the miniature and for Stable Diffusion 1.5. docs/training.md says how it is used.

`config` says everything; `setting` loads what stays frozen; `sources` hand out batches that depend on the seed and the step alone;
`objective` is the loss; `trainer` goes through the steps, `processes` shares them out, and `checkpoint` makes that nothing is lost.
"""
