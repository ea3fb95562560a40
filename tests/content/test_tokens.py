import pytest

from mai_sessions import create_app
from mai_sessions.config import Settings
from mai_sessions.content.tokens import load_tokenizer


@pytest.mark.parametrize(
    ("tokenizer", "text", "tokens"),
    [
        ("words", "two  words\n", 2),
        ("words", "", 0),
        ("words", "\u3000a\u2003b\x1fc\u200bd", 3),
        # The text is cut after 40,000 characters: inside a word, after one, before one, between blanks.
        ("words", "a" * 90_000, 1),
        ("words", "a" * 40_000 + " b", 2),
        ("words", "a" * 39_999 + " b", 2),
        ("words", "a" + " " * 50_000 + "b", 2),
        ("words", "Ā " * 400_000, 400_000),
        # From the vocabularies' own definition: tiktoken gives the same numbers.
        ("cl100k_base", "hello world", 2),
        ("cl100k_base", "tiktoken is great!", 6),
        ("o200k_base", "hello world", 2),
        ("o200k_base", "", 0),
        ("o200k_base", "<|endoftext|>", 7),
        ("cl100k_base", "word " * 400_000, 400_050),
        ("cl100k_base", "\U0001f9ff" * 300_000, 900_000),
    ],
)
def test_tokens_of_a_text_are_counted(tokenizer: str, text: str, tokens: int) -> None:
    assert load_tokenizer(tokenizer)(text) == tokens


def test_message_without_token_count_is_counted(database_url: str) -> None:
    app = create_app(Settings(database_url=database_url, tokenizer="cl100k_base"))
    client = app.test_client()
    messages = f"/api/v1/sessions/{client.post('/api/v1/sessions').get_json()['id']}/messages"
    counted = client.post(messages, json={"role": "user", "content": "tiktoken is great!"})
    assert counted.get_json()["token_count"] == 6
    assert (
        client.post(messages, json={"role": "user", "content": "x", "token_count": 9}).get_json()[
            "token_count"
        ]
        == 9
    )
    assert client.patch(counted.headers["Location"], json={"content": ""}).get_json()["token_count"] == 0
    assert client.patch(counted.headers["Location"], json={"is_error": True}).get_json()["token_count"] == 0
    app.extensions["mai_sessions"].close()
