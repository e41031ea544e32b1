"""Measurements of this project and the tables made of them. Run as modules from the repository's root: `python -m benchmarks.main_job`."""
