"""What lies on disk: subjects, adapter weights and images, read by one policy and written in one way."""
