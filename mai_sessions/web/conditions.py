"""Conditional requests (RFC 9110 §13): entity tags, If-Match and If-None-Match."""

import re
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from flask import g, request

from mai_sessions.ids import parse_id
from mai_sessions.web.state import current_state

# The suffixes that proxies append to a tag when they compress the response.
_ENCODING = re.compile(r"(?:--?|;)(?:gzip|br|zstd|deflate)$")
_ENTITY_TAG = re.compile(r'(?:W/)?"[^"\s]*"').fullmatch
_BYTE_RANGE = re.compile(r"\s*bytes\s*=[^,]*", re.IGNORECASE).fullmatch
_SUFFIX_RANGE = re.compile(r"\s*bytes\s*=\s*-([0-9]+)\s*", re.IGNORECASE).fullmatch


def entity_tag(version: object) -> str:
    """Make the value of an entity tag of a version.

    Where image URLs are signed it also names their period: the same version then has other URLs later.
    """
    return f"{version}{_tag_suffix()}"


def is_known(tag: str) -> bool:
    """Return whether the caller of a GET or HEAD has the representation with this entity tag already."""
    return request.method in ("GET", "HEAD") and not {tag, "*"}.isdisjoint(_tags("HTTP_IF_NONE_MATCH"))


def if_none_match_versions() -> list[UUID]:
    """List the versions in If-None-Match whose image URLs have not changed since."""
    if "HTTP_IF_NONE_MATCH" not in request.environ:
        return []
    suffix = _tag_suffix()
    return _versions(tag.removesuffix(suffix) for tag in _tags("HTTP_IF_NONE_MATCH") if tag.endswith(suffix))


def if_match_versions() -> list[UUID] | None:
    """List the versions in If-Match, or return None where any version will do."""
    if request.environ.get("HTTP_IF_MATCH", "*").strip() == "*":
        return None
    return _versions(tag.partition(".")[0] for tag in _tags("HTTP_IF_MATCH"))


def environ_of_conditions(length: int) -> dict[str, Any]:
    """Return the WSGI environment in the form in which werkzeug evaluates its conditions as RFC 9110 says.

    A Range of another unit, or of several ranges, is ignored (§14.2); a suffix longer than the `length` bytes
    of the attachment is all of it (§14.1.2). The tags in If-None-Match lose what proxies have appended. An
    attachment has no date of modification, so If-Modified-Since is ignored (§13.1.3), and so is a Range whose
    If-Range is a date (§13.1.5). werkzeug fails at a date whose numbers are very long. As in every other
    read, If-Match is ignored: werkzeug would send the attachment with a 412.
    """
    environ: dict[str, Any] = dict(request.environ)
    environ.pop("HTTP_IF_MODIFIED_SINCE", None)
    environ.pop("HTTP_IF_MATCH", None)
    if not (_BYTE_RANGE(environ.get("HTTP_RANGE", "")) and _ENTITY_TAG(environ.get("HTTP_IF_RANGE", '""'))):
        environ.pop("HTTP_RANGE", None)
    suffix = _SUFFIX_RANGE(environ.get("HTTP_RANGE", ""))
    # It may have more digits than Python converts to an int.
    if suffix and float(suffix[1]) > length:
        environ["HTTP_RANGE"] = "bytes=0-"
    if "HTTP_IF_NONE_MATCH" in environ:
        tags = _tags("HTTP_IF_NONE_MATCH")
        environ["HTTP_IF_NONE_MATCH"] = "*" if "*" in tags else ", ".join(f'"{tag}"' for tag in tags)
    return environ


def must_be_new() -> bool:
    """Return whether If-None-Match is `*` in a request that writes, and so refuses an existing resource."""
    header: str = request.environ.get("HTTP_IF_NONE_MATCH", "")
    return header.strip() == "*"


def _tag_suffix() -> str:
    signer = current_state().url_signer
    if signer is None:
        return ""
    # The period may end while a request is served.
    if "mai_sessions_tag_suffix" not in g:
        g.mai_sessions_tag_suffix = f".{signer.period()}"
    suffix: str = g.mai_sessions_tag_suffix
    return suffix


def _versions(tags: Iterable[str]) -> list[UUID]:
    return [version for tag in tags if (version := parse_id(tag)) and str(version) == tag]


def _tags(header: str) -> list[str]:
    """List the entity tags in a header, as the service wrote them.

    A proxy that compresses a response changes its tag: nginx weakens it (`W/"…"`), Apache and others append
    the encoding (`"…-gzip"`). The tag still names the same version, so it counts in If-Match too, where
    RFC 9110 §13.1.1 would never match it.
    """
    value = request.environ.get(header)
    if not value:
        return []
    return [_ENCODING.sub("", tag.strip().removeprefix("W/").strip('"')) for tag in value.split(",")]
