"""The memsidecar command line."""
