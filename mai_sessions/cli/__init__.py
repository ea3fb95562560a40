"""The commands of `mai-sessions`, and of `flask mai-sessions` in another application."""

# Each module adds its commands to `main`.
from mai_sessions.cli import maintenance, service, transfer
from mai_sessions.cli.groups import flask_group, main

__all__ = ["flask_group", "main", "maintenance", "service", "transfer"]
