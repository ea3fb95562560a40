"""All that runs PostgreSQL's own programs."""
