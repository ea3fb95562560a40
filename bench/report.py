"""The figures as tables, as a chart, and as JSON."""

import html
from typing import Any, NamedTuple

from bench.calls import Call
from bench.load import Sample

Figures = dict[str, Sample]


class Measured(NamedTuple):
    """A call, its figures for each target, and the pages that the statement of the service touches."""

    call: Call
    figures: Figures
    pages: int


class FeatureCost(NamedTuple):
    """A call that only the service has, its figures, and its bytes of WAL."""

    name: str
    sample: Sample
    wal: float


_BAR, _GAP, _LEFT, _WIDTH = 13, 16, 190, 860
_TARGETS = {"ours": "mai-sessions", "limit": "limit", "expert": "expert", "seed": "seed"}


def cost(sample: Sample) -> float:
    """Return the CPU microseconds of a request."""
    return sample.server_us + sample.postgres_us


def ratios(figures: Figures) -> dict[str, float]:
    """Return the ratios: requests per second to the seed, CPU time to the limit and the expert."""
    mine = figures["ours"]
    found: dict[str, float] = {}
    for name in ("limit", "expert"):
        if name in figures:
            found[name] = cost(mine) / cost(figures[name])
    if "seed" in figures:
        found["seed"] = mine.requests_per_second / figures["seed"].requests_per_second
    return found


def table(measured: list[Measured]) -> str:
    """Write the figures of each call in Markdown."""
    lines = [
        "| call | target | requests/s | p50 ms | p99 ms | server µs | PostgreSQL µs | CPU µs | ours against "
        "it | wanted | pages |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for call, figures, pages in measured:
        against = ratios(figures)
        for name, s in figures.items():
            wanted = getattr(call, name, None)
            met = wanted is None or (against[name] >= wanted if name == "seed" else against[name] <= wanted)
            lines.append(
                f"| {call.name if name == 'ours' else ''} | {name} "
                + (
                    f"| {s.requests_per_second:,.0f} | {s.p50_ms:.2f} | {s.p99_ms:.2f} "
                    if name != "limit"
                    else "| | | "
                )
                + f"| {s.server_us:,.0f} | {s.postgres_us:,.0f} | {cost(s):,.0f} "
                + (f"| {against[name]:.2f} × " if name in against else "| ")
                + (
                    f"| {'≥' if name == 'seed' else '≤'} {wanted} {'' if met else '**missed**'} "
                    if wanted
                    else "| "
                )
                + f"| {pages if name == 'ours' else ''} |"
            )
    return "\n".join(lines)


def feature_table(features: list[FeatureCost]) -> str:
    """Write the figures of the calls that only the service has in Markdown."""
    lines = [
        "| call of ours alone | requests/s | p50 ms | p99 ms | server µs | PostgreSQL µs | CPU µs "
        "| WAL bytes |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, s, wal in features:
        lines.append(
            f"| {name} | {s.requests_per_second:,.0f} | {s.p50_ms:.2f} | {s.p99_ms:.2f} "
            f"| {s.server_us:,.0f} | {s.postgres_us:,.0f} | {cost(s):,.0f} | {f'{wal:,.0f}' if wal else ''} |"
        )
    return "\n".join(lines)


def flat_table(flat: dict[str, dict[str, Sample]]) -> str:
    """Write the median latencies of the small and the large set in Markdown."""
    users = list(next(iter(flat.values())))
    lines = [f"| p50 ms | {' | '.join(users)} | grows by |", f"| --- |{' ---: |' * (len(users) + 1)}"]
    for call, samples in flat.items():
        p50 = [sample.p50_ms for sample in samples.values()]
        lines.append(
            f"| {call} | {' | '.join(f'{each:.2f}' for each in p50)} | {max(p50[1:]) / p50[0]:.2f} × |"
        )
    return "\n".join(lines)


_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 } .note { fill: #59636e } .name { text-anchor: end }
.ours.server { fill: #0969da } .ours.postgres { fill: #54aeff }
.other.server { fill: #818b98 } .other.postgres { fill: #c0c7cf }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc } .note { fill: #9198a1 } .ours.server { fill: #388bfd } .ours.postgres { fill: #1f4f8f }
.other.server { fill: #8b949e } .other.postgres { fill: #4c545d } }"""


def chart(measured: list[Measured], caption: str) -> str:
    """CPU time of a request, as SVG: a bar for each target, its dark part the server, its light part
    PostgreSQL.
    """
    # The bars of the seed are cut, with their value beside them, to leave room for the others.
    longest = max(
        cost(sample) for _, figures, _ in measured for name, sample in figures.items() if name != "seed"
    )
    scale = (_WIDTH - _LEFT - 170) / longest
    parts, y = [], 44
    for call, figures, _ in measured:
        parts.append(f'<text x="0" y="{y + 10}" font-weight="600">{html.escape(call.name)}</text>')
        for name in (name for name in _TARGETS if name in figures):
            sample = figures[name]
            kind = "ours" if name == "ours" else "other"
            server = min(sample.server_us, longest) * scale
            postgres = min(sample.postgres_us, longest - min(sample.server_us, longest)) * scale
            cut = " ⋯" if cost(sample) > longest * 1.001 else ""
            rate = "" if name == "limit" else f" · {sample.requests_per_second:,.0f} requests/s"
            label = f"{cost(sample):,.0f} µs{cut}{rate}"
            parts += [
                f'<text class="note name" x="{_LEFT + 70}" y="{y + 10}">{_TARGETS[name]}</text>',
                f'<rect class="{kind} server" x="{_LEFT + 78}" y="{y}" width="{server:.1f}"'
                f' height="{_BAR - 2}"/>',
                f'<rect class="{kind} postgres" x="{_LEFT + 78 + server:.1f}" y="{y}" width="{postgres:.1f}"'
                f' height="{_BAR - 2}"/>',
                f'<text class="note" x="{_LEFT + 84 + server + postgres:.1f}" y="{y + 10}">{label}</text>',
            ]
            y += _BAR
        y += _GAP
    width = _WIDTH + 130
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y + 12}" width="{width}" role="img">'
        f"<title>CPU time of a request</title><style>{_STYLE}</style>"
        '<text x="0" y="14" font-weight="600">CPU time of a request: server (dark) and PostgreSQL (light), '
        "less is better</text>"
        f'<text class="note" x="0" y="30">{html.escape(caption)}</text>{"".join(parts)}</svg>\n'
    )


def rounded(sample: Sample) -> dict[str, float]:
    """Return the rounded figures of a sample."""
    return {key: round(value, 3) for key, value in sample._asdict().items()}


def as_json(measured: list[Measured]) -> list[dict[str, Any]]:
    """Return the figures as JSON."""
    return [
        {
            "call": call.name,
            "pages": pages,
            "targets": {name: rounded(sample) for name, sample in figures.items()},
            "ratios": {name: round(ratio, 3) for name, ratio in ratios(figures).items()},
            "wanted": {
                name: wanted for name in ("seed", "limit", "expert") if (wanted := getattr(call, name))
            },
        }
        for call, figures, pages in measured
    ]
