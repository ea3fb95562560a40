"""Compares this checkout with another one: `python -m bench.against ../before`.

Both serve at once over one PostgreSQL, and each call goes to one and the other in turn. The other checkout
needs its virtual environment (`make install`).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click

from bench import calls, features, load, stage
from bench.load import Sample
from bench.report import cost
from bench.stage import Stage
from bench.targets import CACHE, TREE, References, Server
from mai_sessions.embedded import private_postgres as embedded

_NAMES = ("before", "ours")


@click.command()
@click.argument("tree", type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path))
@click.option("--size", default="500", show_default=True, help="Sessions: 500 or 10,000.")
@click.option("--rounds", default=5, show_default=True, help="Rounds of each call; the median counts.")
@click.option("--seconds", default=1, show_default=True, help="Length of a round of what wrk sends.")
@click.option("--only", default="", help="Only the calls whose name matches this regular expression.")
def main(tree: Path, size: str, rounds: int, seconds: int, only: str) -> None:
    """Measure the CPU time of the calls that both checkouts have."""
    CACHE.mkdir(exist_ok=True)
    with embedded.postgresql(CACHE / "postgresql", {"max_connections": 200}) as url, ExitStack() as stack:
        compared = Stage(url, References(TREE), tree)
        servers = {name: stack.enter_context(compared.serving(name, size)) for name in _NAMES}
        click.echo("| call | before: server, PostgreSQL µs | now | CPU | server | PostgreSQL |")
        click.echo("| --- | ---: | ---: | ---: | ---: | ---: |")
        for name, take in _calls(compared, size, seconds):
            if re.search(only, name):
                click.echo(_row(name, _medians(take, servers, rounds)))


def _calls(compared: Stage, size: str, seconds: int) -> Iterator[tuple[str, Callable[[Server], Sample]]]:
    rows = stage.rows(size)
    for call in calls.calls(rows):
        # Later code has its own connections.
        if call.fresh is None:
            lines = call.requests["ours"]
            yield (
                call.name,
                partial(
                    load.send, postgres=compared.postgres, requests=lines, body=call.body, seconds=seconds
                ),
            )
    for feature in features.FEATURES:
        if feature.is_old:
            yield feature.name, partial(features.measure, feature, postgres=compared.postgres, rows=rows)


def _medians(
    take: Callable[[Server], Sample], servers: Mapping[str, Server], rounds: int
) -> dict[str, Sample]:
    samples: dict[str, list[Sample]] = {name: [] for name in servers}
    # The first round warms up.
    for _ in range(rounds + 1):
        for name, server in servers.items():
            samples[name].append(take(server))
    return {name: load.medians(taken[1:]) for name, taken in samples.items()}


def _row(name: str, figures: Mapping[str, Sample]) -> str:
    before, now = (figures[target] for target in _NAMES)
    return (
        f"| {name} | {before.server_us:,.0f} + {before.postgres_us:,.0f} "
        f"| {now.server_us:,.0f} + {now.postgres_us:,.0f} | {cost(now) / cost(before):.2f} "
        f"| {now.server_us / before.server_us:.2f} | {now.postgres_us / before.postgres_us:.2f} |"
    )


if __name__ == "__main__":
    main()
