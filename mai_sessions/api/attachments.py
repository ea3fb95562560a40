"""Attachments."""

from flask import Response, request

from mai_sessions.auth.identity import current_user_id
from mai_sessions.repository import attachments
from mai_sessions.web.blueprint import api
from mai_sessions.web.database import connection

# Bytes, for the documentation.
_IMAGE = {"type": "string", "format": "binary"}
# A browser must treat the bytes as the image type that they were checked to be, and run nothing in them.
_HEADERS = {
    "Cache-Control": "private, max-age=31536000, immutable",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    # The frontend may be of another origin, and its pages show the image.
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
}


@api.get("/attachments/<sha256>", tags=["attachments"])
@api.response(200, _IMAGE, content_type="image/*")
@api.alt_response(206, schema=_IMAGE, content_type="image/*", description="The part that Range asks for")
def get_attachment(sha256: str) -> Response:
    """Read an image"""
    with connection() as conn:
        attachment = attachments.get_attachment(conn, current_user_id(), sha256)
    response = Response(attachment.content, headers=_HEADERS, content_type=attachment.content_type)
    response.set_etag(attachment.sha256)
    response.make_conditional(request, accept_ranges=True, complete_length=len(attachment.content))
    return response
