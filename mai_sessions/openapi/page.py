"""The page at /docs, Swagger UI, and the document that it shows at /openapi.json."""

from functools import partial
from importlib.resources import files
from mimetypes import guess_type

import flask_swagger_ui
import orjson
from flask import Blueprint, Response, render_template_string, request, url_for

from mai_sessions.web.responses import JSON
from mai_sessions.web.state import current_state

blueprint = Blueprint("mai_sessions_docs", __name__)
_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>mai-sessions</title>
<link rel="icon" href="{{ docs }}/favicon-32x32.png">
<link rel="stylesheet" href="{{ docs }}/swagger-ui.css">
<div id="swagger-ui"></div>
<script src="{{ docs }}/swagger-ui-bundle.js"></script>
<script src="{{ docs }}/start.js" data-document="{{ document }}"></script>
"""
_START = b"""\
const url = document.currentScript.dataset.document;
SwaggerUIBundle({url, dom_id: "#swagger-ui", deepLinking: true});
"""
_ASSETS = {
    "start.js": _START,
    **{
        name: files(flask_swagger_ui).joinpath("dist", name).read_bytes()
        for name in ("favicon-32x32.png", "swagger-ui.css", "swagger-ui-bundle.js")
    },
}
# Nothing from another host, and no inline script.
_CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
_CSP += "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


@blueprint.get("/openapi.json")
def get_openapi() -> Response:
    """Return the OpenAPI document, with the path that this application is mounted below."""
    servers = [{"url": url_for("mai_sessions_service.get_service")}]
    document = {**current_state().openapi, "servers": servers}
    return Response(orjson.dumps(document, option=orjson.OPT_INDENT_2), content_type=JSON)


@blueprint.get("/docs")
def get_docs() -> Response:
    """Return the page that shows the document."""
    docs, document = url_for("mai_sessions_docs.get_docs"), url_for("mai_sessions_docs.get_openapi")
    page = render_template_string(_PAGE, docs=docs, document=document)
    return Response(page, headers={"Content-Security-Policy": _CSP})


def _get_asset(name: str) -> Response:
    response = Response(_ASSETS[name], mimetype=guess_type(name)[0])
    response.add_etag()
    response.make_conditional(request)
    return response


for _asset in _ASSETS:
    blueprint.add_url_rule(f"/docs/{_asset}", _asset.replace(".", "-"), partial(_get_asset, _asset))
