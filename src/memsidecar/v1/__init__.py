"""Generated from proto/memsidecar/v1: do not edit, run ./dev generate."""
