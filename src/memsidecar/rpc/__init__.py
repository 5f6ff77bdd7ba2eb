"""The gRPC surface: servicers, validation at the edge, error mapping, authentication."""
