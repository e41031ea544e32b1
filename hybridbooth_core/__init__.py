"""HybridBooth's core: a subject from one image, in a handful of word embeddings, for Stable Diffusion 1.5 and its miniature."""

__version__ = "0.2.0"
