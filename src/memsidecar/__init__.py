"""Long-term memory for chat agents, served over gRPC and kept in the team's own Postgres."""

__version__ = "0.1.0"
