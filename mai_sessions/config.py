"""The settings. Only this module reads the environment."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

from marshmallow import ValidationError, validate
from marshmallow import fields as types

from mai_sessions.errors import StartupError
from mai_sessions.setting_checks import check_bind, check_database_url, check_graceful_timeout

_PREFIX = "MAI_SESSIONS_"
_MASK = "********"
# The password in a URL, `scheme://user:password@host`.
_PASSWORD = re.compile(r"(?<=://)(?P<user>[^:@/?#\s]*):[^/?#\s]*(?=@)")
_PASSWORD_PARAMETER = re.compile(r"(?<=[?&\s]password=)[^&\s]+|(?<=^password=)\S+")
_DATABASE_URL = re.compile(r"postgres(ql)?://", re.ASCII)


def _setting(
    env: str, default: Any, help: str, *, unit: str = "", secret: bool = False, check: Any = None
) -> Any:
    return field(
        default=default,
        repr=not secret,
        metadata={"env": env, "help": help, "unit": unit, "secret": secret, "check": check},
    )


@dataclass(frozen=True)
class Settings:
    """The settings of the service. docs/settings.md lists the variable, unit and meaning of each field."""

    database_url: str = _setting(
        "DATABASE_URL",
        "",
        "The PostgreSQL to use, as a libpq URI. Without it, `mai-sessions serve` starts a private one",
        secret=True,
    )
    read_url: str = _setting(
        "MAI_SESSIONS_READ_URL",
        "",
        "A replica, as a libpq URI, for search and analytics, whose results may lag behind. "
        "While it fails, `DATABASE_URL` serves them",
        secret=True,
    )
    migrate: str = _setting(
        "MAI_SESSIONS_MIGRATE",
        "on",
        "At start, `on` applies pending migrations, `check` refuses to start if there are any, `off` does "
        "neither",
        check=validate.OneOf(["on", "check", "off"]),
    )
    bind: str = _setting(
        "MAI_SESSIONS_BIND", "127.0.0.1:8000", "Address that gunicorn listens on, `host:port` or `unix:path`"
    )
    workers: int = _setting("MAI_SESSIONS_WORKERS", 2, "Worker processes", check=validate.Range(min=1))
    threads: int = _setting(
        "MAI_SESSIONS_THREADS",
        4,
        "Threads of each worker, and the most database connections that it opens",
        check=validate.Range(min=1),
    )
    worker: str = _setting(
        "MAI_SESSIONS_WORKER",
        "epoll",
        "`epoll`: no slow client occupies a thread. It needs Linux; elsewhere `gthread` serves. `gthread`: "
        "gunicorn's own worker, for TLS, HTTP/2, an access log or hooks. Slow clients occupy its threads, "
        "and each connection ends after one response",
        check=validate.OneOf(["epoll", "gthread"]),
    )
    max_body: int = _setting(
        "MAI_SESSIONS_MAX_BODY",
        64 * 1024 * 1024,
        "The largest request body. A larger one is a `413`",
        unit="bytes",
        check=validate.Range(min=1),
    )
    max_response: int = _setting(
        "MAI_SESSIONS_MAX_RESPONSE",
        64 * 1024 * 1024,
        "The most JSON of messages in one response, unless it is one message. A read of more is a `422`; the "
        "response to a write holds the newest that fit",
        unit="bytes",
        check=validate.Range(min=1024, max=256 * 1024 * 1024),
    )
    max_json_depth: int = _setting(
        "MAI_SESSIONS_MAX_JSON_DEPTH",
        40,
        "How deep arrays and objects may be nested in a request body. Deeper is a `422`. Metadata of a "
        "message in a batch stand three levels deep, and may have 32 of their own",
        unit="levels",
        check=validate.Range(min=1, max=1000),
    )
    max_header: int = _setting(
        "MAI_SESSIONS_MAX_HEADER",
        8190,
        "The longest header and the longest first line of a request. A longer one is a `431` or `414`",
        unit="bytes",
        check=validate.Range(min=1024),
    )
    client_timeout: float = _setting(
        "MAI_SESSIONS_CLIENT_TIMEOUT",
        10.0,
        "The longest time in which a client sends a request or takes a response, plus one second for each "
        "16 KiB. After that, the response is a `408` or the connection ends",
        unit="seconds",
        check=validate.Range(min=0, min_inclusive=False),
    )
    tokenizer: str = _setting(
        "MAI_SESSIONS_TOKENIZER",
        "words",
        "What `token_count` counts where a client does not give it: `words`, or BPE tokens of `cl100k_base` "
        "or `o200k_base`, which need the extra `tokens`",
        check=validate.OneOf(["words", "cl100k_base", "o200k_base"]),
    )
    pool_timeout: float = _setting(
        "MAI_SESSIONS_POOL_TIMEOUT",
        5.0,
        "The longest wait for a thread and a database connection together. After that, the response is a "
        "`503`",
        unit="seconds",
        check=validate.Range(min=0, min_inclusive=False),
    )
    statement_timeout: float = _setting(
        "MAI_SESSIONS_STATEMENT_TIMEOUT",
        10.0,
        "The longest run of a statement. After that, the response is a `503`",
        unit="seconds",
        check=validate.Range(min=0, min_inclusive=False),
    )
    prepare: str = _setting(
        "MAI_SESSIONS_PREPARE",
        "on",
        "`off` behind PgBouncer before 1.21: statements are not prepared, and the role must carry the "
        "session settings ([deploy.md](deploy.md#through-pgbouncer))",
        check=validate.OneOf(["on", "off"]),
    )
    expiry: str = _setting(
        "MAI_SESSIONS_EXPIRY",
        "on",
        "`on` removes expired idempotency keys, ends abandoned streams, and applies "
        "`MAI_SESSIONS_RETENTION_DAYS`. `off` leaves that to `mai-sessions purge` or the scripts of "
        "`sql/dba/maintain/`",
        check=validate.OneOf(["on", "off"]),
    )
    retention_days: int = _setting(
        "MAI_SESSIONS_RETENTION_DAYS",
        0,
        "Sessions that were not written to for this time are deleted for good. 0 keeps all",
        unit="days",
        check=validate.Range(min=0, max=36500),
    )
    worker_timeout: int = _setting(
        "MAI_SESSIONS_WORKER_TIMEOUT",
        30,
        "A worker process that does not respond for this time is killed and replaced",
        unit="seconds",
        check=validate.Range(min=1),
    )
    graceful_timeout: int = _setting(
        "MAI_SESSIONS_GRACEFUL_TIMEOUT",
        20,
        "The longest wait for requests under way at a stop or reload: at least the pool timeout and the "
        "statement timeout together",
        unit="seconds",
        check=validate.Range(min=1),
    )
    max_requests: int = _setting(
        "MAI_SESSIONS_MAX_REQUESTS",
        0,
        "A worker process is replaced after this number of requests, plus up to a tenth so that not all are "
        "replaced at once. 0 never replaces it",
        unit="requests",
        check=validate.Range(min=0),
    )
    auth: str = _setting(
        "MAI_SESSIONS_AUTH",
        "none",
        "How callers are authenticated: `none` makes all of them `default-user`, `proxy` believes a header "
        "of a trusted proxy, `jwt` checks bearer tokens",
        check=validate.OneOf(["none", "proxy", "jwt"]),
    )
    allow_anonymous: bool = _setting(
        "MAI_SESSIONS_ALLOW_ANONYMOUS",
        False,
        "With `none`: allow addresses other than loopback, and any `Host`",
    )
    user_header: str = _setting(
        "MAI_SESSIONS_USER_HEADER",
        "X-Forwarded-User",
        "With `proxy`: the header that names the user, in UTF-8 and without commas",
    )
    trusted_proxies: tuple[str, ...] = _setting(
        "MAI_SESSIONS_TRUSTED_PROXIES",
        (),
        "With `proxy`: the addresses and networks of the proxies, separated by commas. `unix` is any peer "
        "of a Unix socket",
    )
    jwt_secret: str = _setting(
        "MAI_SESSIONS_JWT_SECRET",
        "",
        "With `jwt`: the secret of HMAC tokens, of at least 32 bytes for HS256",
        secret=True,
    )
    jwt_key: str = _setting("MAI_SESSIONS_JWT_KEY", "", "With `jwt`: the public key of the tokens, in PEM")
    jwt_jwks_url: str = _setting(
        "MAI_SESSIONS_JWT_JWKS_URL", "", "With `jwt`: the URL of the identity provider's key set"
    )
    jwt_algorithms: tuple[str, ...] = _setting(
        "MAI_SESSIONS_JWT_ALGORITHMS",
        (),
        "With `jwt`: the algorithms of tokens, separated by commas. By default `HS256` with a secret, else "
        "`RS256,ES256,EdDSA`",
    )
    jwt_audience: str = _setting(
        "MAI_SESSIONS_JWT_AUDIENCE", "", "With `jwt`: the audience that `aud` must name. By default any"
    )
    jwt_issuer: str = _setting(
        "MAI_SESSIONS_JWT_ISSUER", "", "With `jwt`: the issuer that `iss` must name. By default any"
    )
    url_secret: str = _setting(
        "MAI_SESSIONS_URL_SECRET",
        "",
        "With `jwt`: the secret that signs the URLs of images, the same on every host. By default it is "
        "derived from the secret of the tokens; without that, each start makes a new one",
        secret=True,
    )
    url_lifetime: int = _setting(
        "MAI_SESSIONS_URL_LIFETIME",
        3600,
        "With `jwt`: the shortest validity of a signed URL. The longest is twice that",
        unit="seconds",
        check=validate.Range(min=60),
    )
    cors_origins: tuple[str, ...] = _setting(
        "MAI_SESSIONS_CORS_ORIGINS",
        (),
        "The origins whose pages may call the API, exact and separated by commas: "
        "`http://localhost:5173,tauri://localhost`",
    )

    @classmethod
    def from_environ(cls) -> Self:
        """Read the settings from environment variables. `NAME_FILE` is the path of a file with the value.

        Raises StartupError, which names the variable, for a wrong value and for an unknown variable.
        """
        _refuse_unknown(cls, os.environ, suffixes=("", "_FILE"))
        values = {}
        for f in fields(cls):
            name = f.metadata["env"]
            if path := os.environ.get(f"{name}_FILE"):
                if os.environ.get(name):
                    raise StartupError(f"{name} and {name}_FILE are both set: unset one of them")
                try:
                    values[f.name] = Path(path).read_text().strip()
                except (OSError, UnicodeDecodeError):
                    raise StartupError(f"{name}_FILE must be the path of a readable file") from None
                if not values[f.name]:
                    raise StartupError(f"{name}_FILE: the file {path} is empty")
            elif name in os.environ:
                values[f.name] = os.environ[name].strip()
        return cls._parse(values)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Read the settings from the configuration of a Flask application.

        The keys are the names of the variables; `DATABASE_URL` is `MAI_SESSIONS_DATABASE_URL` here, since the
        application may have a database of its own. Values are of the setting's type, or text as in a
        variable. Raises StartupError like `from_environ`.
        """
        keys = {f.name: _config_key(f.metadata["env"]) for f in fields(cls)}
        _refuse_unknown(cls, config)
        try:
            settings = cls._parse({name: config[key] for name, key in keys.items() if key in config})
            if not settings.database_url:
                raise StartupError("DATABASE_URL is not set")
        except StartupError as error:
            raise StartupError(as_in_application(str(error))) from None
        return settings

    @classmethod
    def _parse(cls, values: Mapping[str, Any]) -> Self:
        settings: dict[str, Any] = {}
        for f in fields(cls):
            if f.name not in values:
                continue
            try:
                settings[f.name] = _FIELDS[f.type](validate=f.metadata["check"]).deserialize(values[f.name])
            except ValidationError as error:
                raise StartupError(f"{f.metadata['env']}: {' '.join(error.messages)}") from None
        complete = cls(**settings)
        check_database_url("DATABASE_URL", complete.database_url)
        check_database_url("MAI_SESSIONS_READ_URL", complete.read_url)
        check_bind(complete.bind)
        check_graceful_timeout(complete.graceful_timeout, complete.pool_timeout, complete.statement_timeout)
        return complete

    def in_force(self) -> Iterator[tuple[str, str]]:
        """Give each variable and its value, with secrets and the passwords in URLs masked."""
        for f in fields(self):
            value = _text(getattr(self, f.name))
            is_secret = f.metadata["secret"] and not _DATABASE_URL.match(value)
            masked = _PASSWORD.sub(rf"\g<user>:{_MASK}", value)
            masked = _PASSWORD_PARAMETER.sub(_MASK, masked)
            yield f.metadata["env"], _MASK if is_secret and value else masked

    @classmethod
    def sources(cls) -> dict[str, str]:
        """Return where each variable that is set comes from: `environment`, or the path of its file."""
        names = [f.metadata["env"] for f in fields(cls)]
        return {
            name: os.environ.get(f"{name}_FILE") or "environment"
            for name in names
            if name in os.environ or f"{name}_FILE" in os.environ
        }

    @classmethod
    def markdown(cls) -> str:
        """Make the table of docs/settings.md."""
        lines = ["| variable | default | unit | meaning |", "| --- | --- | --- | --- |"]
        for f in fields(cls):
            default = f"`{_text(f.default)}`" if _text(f.default) else ""
            lines.append(
                f"| `{f.metadata['env']}` | {default} | {f.metadata['unit']} | {f.metadata['help']} |"
            )
        return "\n".join(lines)


class _Words(types.List[str]):
    """Words with commas between them."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(types.String(), **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if isinstance(value, str):
            value = value.split(",") if value else []
        words = super()._deserialize(list(value), attr, data, **kwargs) or []
        return tuple(word.strip() for word in words if word)


_FIELDS: dict[Any, type[types.Field[Any]]] = {
    str: types.String,
    int: types.Integer,
    float: types.Float,
    bool: types.Boolean,
    tuple[str, ...]: _Words,
}


def as_in_application(message: str) -> str:
    """Name the settings and commands of a message as an application that registers `MaiSessions` has them."""
    message = message.replace("`mai-sessions ", "`flask mai-sessions ")
    return re.sub(r"\bDATABASE_URL\b", _PREFIX + "DATABASE_URL", message)


def _config_key(variable: str) -> str:
    return variable if variable.startswith(_PREFIX) else _PREFIX + variable


def _refuse_unknown(cls: type[Settings], names: Iterable[str], suffixes: tuple[str, ...] = ("",)) -> None:
    """Raise StartupError for a name that begins with MAI_SESSIONS_ and belongs to no setting."""
    known = {_config_key(f.metadata["env"]) + suffix for f in fields(cls) for suffix in suffixes}
    for name in names:
        if name.startswith(_PREFIX) and name not in known:
            matches = get_close_matches(
                name.removeprefix(_PREFIX), [k.removeprefix(_PREFIX) for k in known], 1
            )
            suggestions = [f"; did you mean {_PREFIX}{match}?" for match in matches]
            raise StartupError(f"unknown variable {name}{''.join(suggestions)}")


def _text(value: Any) -> str:
    """Write a value as its variable is set."""
    if isinstance(value, tuple):
        return ",".join(value)
    return str(int(value)) if isinstance(value, bool) else str(value)
