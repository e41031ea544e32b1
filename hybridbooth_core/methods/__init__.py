"""Every way to make a subject, in one registry and called the same way."""
