"""All that knows gunicorn."""
