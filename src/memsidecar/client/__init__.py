"""The Python client: typed, async and sync."""
