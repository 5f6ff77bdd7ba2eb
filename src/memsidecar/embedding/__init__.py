"""The model in the process: installing it, turning text into vectors, and scheduling that work."""
