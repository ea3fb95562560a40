"""Write mai_sessions_client/client.py, the synchronous client, from async_client.py."""

import re
from pathlib import Path

PACKAGE = Path(__file__).parent / "mai_sessions_client"
REPLACEMENTS = [
    (
        r'"""The asynchronous client\. .*?"""',
        '"""The synchronous client, made from async_client.py by generate_client.py: do not edit it."""',
    ),
    (r"from collections\.abc import AsyncIterator, Awaitable, ", "from collections.abc import "),
    (r"import Callable, Mapping", "import Callable, Iterator, Mapping"),
    (r"import asyncio\n", ""),
    (r"str \| Awaitable\[str\]", "str"),
    (r"return token if isinstance\(token, str\) else await token", "return token"),
    (r"in `async with`", "in `with`"),
    (r"asyncio\.sleep", "time.sleep"),
    (r"AsyncBaseTransport", "BaseTransport"),
    (r"AsyncIterator", "Iterator"),
    (r"AsyncClient", "Client"),
    (r"__aenter__", "__enter__"),
    (r"__aexit__", "__exit__"),
    (r"\ba(close|read|iter_lines)\b", r"\1"),
    (r"\b(?:async|await) ", ""),
]


def generate() -> str:
    """Give the text of client.py."""
    source = (PACKAGE / "async_client.py").read_text()
    for pattern, replacement in REPLACEMENTS:
        source = re.sub(pattern, replacement, source, flags=re.DOTALL)
    return source


if __name__ == "__main__":
    (PACKAGE / "client.py").write_text(generate())
