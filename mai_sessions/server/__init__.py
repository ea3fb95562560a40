"""gunicorn: its settings, its workers, and how the service is started."""
