import importlib.resources, psycopg
def migrate(url, mode):
    with psycopg.connect(url) as c:
        if c.execute("select to_regclass('sessions')").fetchone()[0] is None:
            c.execute((importlib.resources.files("mai_sessions.sql")/"migrations/0001_create_sessions.sql").read_text())
def is_current(conn): return True
