"""Measurements at Stable Diffusion 1.5's true size: the pieces of `benchmarks.refine_sd15` and `benchmarks.train_probe`."""
