"""The demo: a sidecar of its own, a conversation put in, questions asked about it."""
