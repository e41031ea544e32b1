"""Refines a subject's token embeddings by a few gradient steps through the frozen model."""
