"""What is recorded of each request: the log and the metrics."""
