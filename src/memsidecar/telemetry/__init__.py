"""Signals of a running server: Prometheus metrics, OpenTelemetry traces and the admin HTTP port."""
