"""Clients of applications with settings of their own."""

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient


@pytest.fixture
def make_client(make_app: Callable[..., Flask]) -> Callable[..., FlaskClient]:
    """Makes clients of applications with these settings."""
    return lambda **settings: make_app(**settings).test_client()
