"""The log and the metrics of requests."""
