"""Measurements of memsidecar; ``python -m benchmarks --help`` lists them."""
