"""Settings, and the only reader of the environment."""

from dataclasses import dataclass, field, fields
from typing import Any, Self

from environs import EnvError, FileAwareEnv, validate

from mai_sessions.errors import StartupError


def _setting(env: str, default: Any, help: str, *, unit: str = "", secret: bool = False, check: Any = None) -> Any:
    return field(
        default=default,
        repr=not secret,
        metadata={"env": env, "help": help, "unit": unit, "secret": secret, "check": check},
    )


@dataclass(frozen=True)
class Settings:
    """What an operator can choose. Each field carries its variable, unit and meaning, from which the README's table is made."""

    database_url: str = _setting(
        "DATABASE_URL", "", "PostgreSQL to use, as a libpq URI. `mai-sessions serve` without it starts its own", secret=True
    )
    migrate: str = _setting(
        "MAI_SESSIONS_MIGRATE",
        "on",
        "At start: `on` applies pending migrations, `check` refuses to start when there are any, `off` does not look",
        check=validate.OneOf(["on", "check", "off"]),
    )
    bind: str = _setting("MAI_SESSIONS_BIND", "127.0.0.1:8000", "Address that gunicorn listens on, `host:port` or `unix:path`")
    workers: int = _setting("MAI_SESSIONS_WORKERS", 2, "Worker processes", check=validate.Range(min=1))
    threads: int = _setting(
        "MAI_SESSIONS_THREADS",
        4,
        "Threads of each worker, and the most database connections that it opens",
        check=validate.Range(min=1),
    )
    max_body: int = _setting(
        "MAI_SESSIONS_MAX_BODY", 64 * 1024 * 1024, "Largest request body; more is `413`", unit="bytes", check=validate.Range(min=1)
    )
    tokenizer: str = _setting(
        "MAI_SESSIONS_TOKENIZER",
        "words",
        "What a message's `token_count` counts when it is not given: `words`, or the BPE tokens of `cl100k_base` or `o200k_base`, "
        "which the extra `tokens` brings",
        check=validate.OneOf(["words", "cl100k_base", "o200k_base"]),
    )
    pool_timeout: float = _setting(
        "MAI_SESSIONS_POOL_TIMEOUT",
        5.0,
        "Longest wait for a database connection; then `503`",
        unit="seconds",
        check=validate.Range(min=0, min_inclusive=False),
    )
    statement_timeout: float = _setting(
        "MAI_SESSIONS_STATEMENT_TIMEOUT",
        10.0,
        "Longest run of a statement; then `503`",
        unit="seconds",
        check=validate.Range(min=0, min_inclusive=False),
    )

    @classmethod
    def from_environ(cls) -> Self:
        """Read the settings; each variable may also be given as a file, by its name and `_FILE`.

        Raises StartupError that names the variable whose value does not fit.
        """
        env = FileAwareEnv(strip_whitespace=True)
        parsers: dict[Any, Any] = {str: env.str, int: env.int, float: env.float}
        try:
            return cls(**{f.name: parsers[f.type](f.metadata["env"], f.default, validate=f.metadata["check"]) for f in fields(cls)})
        except (EnvError, ValueError) as error:
            raise StartupError(str(error)) from None
