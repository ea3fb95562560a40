"""Settings, and the only reader of the environment."""

from collections.abc import Callable
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

    auth: str = _setting(
        "MAI_SESSIONS_AUTH",
        "none",
        "Who is calling: `none` asks nobody, everyone is `default-user`; `proxy` believes a header of a trusted proxy; "
        "`jwt` checks bearer tokens",
        check=validate.OneOf(["none", "proxy", "jwt"]),
    )
    allow_anonymous: bool = _setting(
        "MAI_SESSIONS_ALLOW_ANONYMOUS", False, "With `none`: listen on addresses beyond loopback all the same"
    )
    user_header: str = _setting(
        "MAI_SESSIONS_USER_HEADER", "X-Forwarded-User", "With `proxy`: the header that names the user, in UTF-8 and without commas"
    )
    trusted_proxies: tuple[str, ...] = _setting(
        "MAI_SESSIONS_TRUSTED_PROXIES",
        (),
        "With `proxy`: the addresses and networks that are believed, separated by commas; `unix` is the peer of a Unix socket",
    )
    jwt_secret: str = _setting(
        "MAI_SESSIONS_JWT_SECRET", "", "With `jwt`: the secret of HMAC tokens, of at least 32 bytes for HS256", secret=True
    )
    jwt_key: str = _setting("MAI_SESSIONS_JWT_KEY", "", "With `jwt`: the public key of the tokens, in PEM")
    jwt_jwks_url: str = _setting("MAI_SESSIONS_JWT_JWKS_URL", "", "With `jwt`: where the identity provider publishes its keys")
    jwt_algorithms: tuple[str, ...] = _setting(
        "MAI_SESSIONS_JWT_ALGORITHMS",
        (),
        "With `jwt`: the algorithms that tokens may use, separated by commas; empty is `HS256` with a secret, "
        "else `RS256,ES256,EdDSA`",
    )
    jwt_audience: str = _setting("MAI_SESSIONS_JWT_AUDIENCE", "", "With `jwt`: what `aud` must name; empty does not look")
    jwt_issuer: str = _setting("MAI_SESSIONS_JWT_ISSUER", "", "With `jwt`: what `iss` must be; empty does not look")
    url_secret: str = _setting(
        "MAI_SESSIONS_URL_SECRET",
        "",
        "With `jwt`: what the URLs of images are signed with, the same on every host; empty derives it from the secret of the "
        "tokens, or else makes one at each start",
        secret=True,
    )
    url_lifetime: int = _setting(
        "MAI_SESSIONS_URL_LIFETIME",
        3600,
        "With `jwt`: shortest life of a signed URL; the longest is twice that",
        unit="seconds",
        check=validate.Range(min=60),
    )

    @classmethod
    def from_environ(cls) -> Self:
        """Read the settings; each variable may also be given as a file, by its name and `_FILE`.

        Raises StartupError that names the variable whose value does not fit.
        """
        env = FileAwareEnv(strip_whitespace=True)

        def words(name: str, default: tuple[str, ...], validate: Any) -> tuple[str, ...]:
            return tuple(word.strip() for word in env.list(name, list(default), validate=validate))

        parsers: dict[Any, Callable[..., Any]] = {
            str: env.str,
            int: env.int,
            float: env.float,
            bool: env.bool,
            tuple[str, ...]: words,
        }
        try:
            return cls(**{f.name: parsers[f.type](f.metadata["env"], f.default, validate=f.metadata["check"]) for f in fields(cls)})
        except (EnvError, ValueError) as error:
            raise StartupError(str(error)) from None
