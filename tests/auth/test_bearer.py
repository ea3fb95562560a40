"""The mode `jwt`: accepted and refused tokens."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from support.tokens import (
    EC,
    ED,
    HOUR,
    JWT,
    OTHER_RSA,
    RSA,
    SECRET,
    WITH_KEY,
    WITH_SECRET,
    b64,
    bearer,
    pem,
    token,
)

from mai_sessions import create_app
from mai_sessions.config import Settings


def unsigned(header: object, **claims: Any) -> str:
    return f"{b64(header)}.{b64({'sub': 'ann', 'exp': time.time() + HOUR, **claims})}."


def hmac_with_the_public_key() -> str:
    # PyJWT refuses to make such a token.
    from hmac import digest  # noqa: PLC0415

    signed = unsigned({"alg": "HS256", "typ": "JWT"}).removesuffix(".")
    return f"{signed}.{b64(digest(pem(RSA).encode(), signed.encode(), 'sha256'))}"


DEEP = f"{b64(b'[' * 5000)}.e30.x"


@pytest.mark.parametrize(
    ("settings", "forged"),
    [
        pytest.param(WITH_SECRET, unsigned({"alg": "none"}), id="alg none"),
        pytest.param(WITH_SECRET, unsigned({"alg": "NoNe"}), id="alg NoNe"),
        pytest.param(WITH_SECRET, unsigned({}), id="no alg"),
        pytest.param(WITH_SECRET, unsigned([]), id="header is an array"),
        pytest.param(WITH_SECRET, unsigned({"alg": "HS256", "kid": 5}), id="kid is a number"),
        pytest.param(WITH_SECRET, unsigned({"alg": {}}), id="alg is an object"),
        pytest.param(WITH_SECRET, DEEP, id="header of 5000 arrays"),
        pytest.param(WITH_SECRET, token(SECRET, "HS512"), id="an algorithm that is not on the list"),
        pytest.param(WITH_SECRET, token(exp=None), id="no exp"),
        pytest.param(WITH_SECRET, token(exp="soon"), id="exp is text"),
        pytest.param(WITH_SECRET, token(exp=float("inf")), id="exp is infinite"),
        pytest.param(WITH_SECRET, token(nbf=time.time() + 3600), id="not yet"),
        pytest.param(WITH_SECRET, token(sub=None), id="no sub"),
        pytest.param(WITH_SECRET, token(sub=""), id="empty sub"),
        pytest.param(WITH_SECRET, token(sub="x" * 256), id="long sub"),
        pytest.param(WITH_SECRET, token(sub="a\0b"), id="U+0000 in sub"),
        pytest.param(WITH_SECRET, token(sub="\ud800"), id="lone surrogate in sub"),
        pytest.param(WITH_SECRET, token()[:-4] + "AAAA", id="changed signature"),
        pytest.param(JWT, token(iss="idp"), id="no audience"),
        pytest.param(JWT, token(iss="idp", aud="other"), id="wrong audience"),
        pytest.param(JWT, token(aud="mai"), id="no issuer"),
        pytest.param(JWT, token(aud="mai", iss="other"), id="wrong issuer"),
        pytest.param(WITH_KEY, hmac_with_the_public_key(), id="HMAC with the public key"),
        pytest.param(WITH_KEY, token(OTHER_RSA, "RS256"), id="another key"),
        pytest.param(WITH_KEY, token(EC, "ES256"), id="another kind of key"),
        pytest.param(WITH_KEY, token(RSA, "PS256"), id="the right key, an algorithm that is not on the list"),
    ],
)
def test_forged_token_is_refused(
    make_client: Callable[..., FlaskClient], settings: dict[str, Any], forged: str
) -> None:
    response = make_client(**settings).get("/api/v1/sessions", headers={"Authorization": f"Bearer {forged}"})
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="mai-sessions", error="invalid_token"'


def test_token_is_read_only_from_the_authorization_header(make_client: Callable[..., FlaskClient]) -> None:
    client = make_client(**WITH_SECRET)
    good = token()
    for query, headers in [
        (f"?token={good}&access_token={good}", {}),
        ("", {"Authorization": f"Basic {good}"}),
        ("", {"Authorization": good}),
        ("", {"Authorization": f"Bearer {good},Bearer {good}"}),
        ("", {"Authorization": f"Bearer  {good}"}),
        ("", {"Authorization": f"Bearer\t{good}"}),
        ("", {"Authorization": "Bearer é"}),
        ("", {"Cookie": f"token={good}; Authorization={good}"}),
    ]:
        response = client.get(f"/api/v1/sessions{query}", headers=headers)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="mai-sessions"'
    assert client.get("/api/v1/sessions", headers={"Authorization": f"bearer {good}"}).status_code == 200


@given(st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=60))
def test_no_authorization_header_causes_a_5xx(fuzzed_client: FlaskClient, header: str) -> None:
    for value in (header, f"Bearer {header}", f"Bearer {b64(header.encode())}.{b64(header.encode())}.x"):
        assert (
            fuzzed_client.get("/api/v1/none", environ_base={"HTTP_AUTHORIZATION": value}).status_code == 401
        )


@pytest.fixture(scope="module")
def fuzzed_client(database_url: str) -> FlaskClient:
    return create_app(Settings(database_url=database_url, **WITH_SECRET)).test_client()


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA")])
def test_token_of_each_public_key_algorithm_is_accepted(
    make_client: Callable[..., FlaskClient], key: Any, algorithm: str
) -> None:
    client = make_client(auth="jwt", jwt_key=pem(key))
    assert client.get("/api/v1/sessions", headers=bearer(key, algorithm)).status_code == 200
    # Claims that are not checked do not matter, and a clock may be slightly ahead.
    headers = bearer(key, algorithm, aud="anyone", iss="anyone", iat=time.time() + 30)
    assert client.get("/api/v1/sessions", headers=headers).status_code == 200


@pytest.mark.parametrize(("ahead", "status"), [(5, 200), (60, 401)])
def test_not_before_has_a_leeway(make_client: Callable[..., FlaskClient], ahead: int, status: int) -> None:
    headers = bearer(nbf=time.time() + ahead)
    assert make_client(**WITH_SECRET).get("/api/v1/sessions", headers=headers).status_code == status


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        pytest.param(token(exp=1), "ExpiredSignatureError", id="expired"),
        pytest.param(token(nbf=10**11), "ImmatureSignatureError", id="not yet"),
        pytest.param(token(OTHER_RSA, "RS256"), "InvalidAlgorithmError", id="another algorithm"),
        pytest.param("a.b.c", "DecodeError", id="not a token"),
        pytest.param(token(exp=None), "MissingRequiredClaimError", id="no expiry"),
    ],
)
def test_log_says_why_a_token_is_refused(
    make_client: Callable[..., FlaskClient], caplog: pytest.LogCaptureFixture, refused: str, reason: str
) -> None:
    caplog.set_level("INFO")
    headers = {"Authorization": f"Bearer {refused}"}
    assert make_client(**WITH_SECRET).get("/api/v1/sessions", headers=headers).status_code == 401
    assert f"a token is refused: {reason}" in caplog.text
    assert refused not in caplog.text
