"""The SQL files of the service, shipped with it as the package `mai_sessions.sql`; `README.md` beside this
file is for DBAs.
"""
