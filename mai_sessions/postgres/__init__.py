"""Connections to PostgreSQL, and the migrations: the only importer of psycopg."""
