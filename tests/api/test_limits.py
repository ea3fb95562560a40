import json

import pytest
from flask.testing import FlaskClient


@pytest.mark.parametrize(("depth", "status"), [(32, 201), (33, 422), (900, 422), (100_000, 422)])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_depth_of_json(client: FlaskClient, depth: int, status: int, opening: str, closing: str) -> None:
    # The body itself is the first level.
    inner = opening * (depth - 1) + "1" + closing * (depth - 1)
    response = client.post("/api/v1/sessions", data=f'{{"unknown":{inner}}}')
    assert response.status_code == status


def test_width_of_json_is_no_depth(client: FlaskClient) -> None:
    assert client.post("/api/v1/sessions", data=json.dumps({"unknown": [[]] * 10_000})).status_code == 201
