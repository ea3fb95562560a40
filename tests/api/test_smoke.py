def test_chain(client):
    s = client.post("/api/v1/sessions", json={"title": "x"}).get_json()
    r = client.post(f"/api/v1/sessions/{s['id']}/messages", json={"role": "user", "content": "hi"})
    assert r.status_code == 201
    assert client.get(f"/api/v1/sessions/{s['id']}").get_json()["message_count"] == 1
    assert client.get("/api/v1/sessions").get_json()["total"] == 1
