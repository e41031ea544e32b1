"""A few gradient steps on a subject's token embeddings through the frozen model."""
