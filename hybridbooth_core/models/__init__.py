"""What procedures know of a text-to-image model: the model adapter, its implementation on diffusers, sampling, and memory."""
