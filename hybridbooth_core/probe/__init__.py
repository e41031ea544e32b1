"""The probe: features of reference images to the initial token embeddings of a subject."""
