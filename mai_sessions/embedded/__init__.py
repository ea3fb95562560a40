"""The code that runs PostgreSQL's programs."""
