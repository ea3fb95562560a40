from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mai_sessions.auth.signed_urls import UrlSigner

SHA256 = "ab" * 32
signer = UrlSigner(b"k" * 32, 3600)


def verified(
    query: str, *, signer: UrlSigner = signer, user_id: str | None = None, sha256: str = SHA256
) -> bool:
    given = {name: values[0] for name, values in parse_qs(query, strict_parsing=True).items()}
    return signer.verify(user_id or given["user"], sha256, given["expires"], given["signature"])


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=255))
def test_signature_is_verified_for_any_user(user_id: str) -> None:
    query = signer.sign(user_id, SHA256)
    assert query.isascii()
    assert verified(query, user_id=user_id)


def test_signature_is_bound_to_user_attachment_and_key() -> None:
    query = signer.sign("ann", SHA256)
    assert not verified(query, user_id="bob")
    assert not verified(query, sha256="cd" * 32)
    assert not verified(query, signer=UrlSigner(b"other" * 8, 3600))


@pytest.mark.parametrize("expires", ["", "x", "9999999999", "-1", "1\0", "é", "\ud800"])
def test_changed_expiry_is_refused(expires: str) -> None:
    signature = parse_qs(signer.sign("ann", SHA256))["signature"][0]
    assert not signer.verify("ann", SHA256, expires, signature)
    assert not signer.verify("ann", SHA256, expires, "é\ud800")


def test_url_is_valid_for_one_to_two_lifetimes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 3600.0 * 1000
    monkeypatch.setattr("time.time", lambda: now)
    query, period = signer.sign("ann", SHA256), signer.period()
    now += 3599
    assert signer.sign("ann", SHA256) == query
    assert signer.period() == period
    now += 3600
    assert signer.sign("ann", SHA256) != query
    assert signer.period() != period
    assert verified(query)
    now += 1
    assert not verified(query)


def test_period_names_the_key() -> None:
    assert signer.period() != UrlSigner(b"other" * 8, 3600).period()
