"""The pieces of benchmarks/refine_sd15.py."""
