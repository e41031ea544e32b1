"""The text-to-image models that HybridBooth works on, each in one file: `load_base("miniature" | path)`."""
