"""What memsidecar does, without saying how: models, rules, use cases and ports. Standard library only."""
