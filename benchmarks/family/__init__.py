"""Every method on the same creatures, prompts and noise: `python -m benchmarks.family`. Only measures; the methods are the library's."""
