"""The bench of the family: every system on the same creatures, prompts and noise. Measures only; procedures live in `family`."""
