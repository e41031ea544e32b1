"""The probe: predicts a subject's initial token embeddings from features of its reference images."""
