"""The table and the plot of gateway benchmarks, in Markdown."""

import pathlib
from typing import Any

BASE = "vllm-router"
_BEGIN, _END = "<!-- gateways -->", "<!-- end of gateways -->"


def table(results: dict[str, Any], cases: list[str]) -> str:
    """CPU ms per request with the ratio to vllm-router, req/s, and the added latency; a block for each figure."""
    names = list(results)
    lines = ["CPU milliseconds of the gateway per request, 16 clients at once (÷ vllm-router):", ""]
    lines += _rows(["body", *names], [[case, *(_cpu(results, name, case) for name in names)] for case in cases])
    lines += ["", "Requests per second, with 1, 16 and 64 clients at once:", ""]
    lines += _rows(["body", *names], [[case, *(_throughput(results[name][case]) for name in names)] for case in cases])
    lines += ["", "Added latency, open loop, p50 / p99 in ms (requests per second):", ""]
    lines += _rows(
        ["body", *names], [[case, *(_added(results[name][case]["open"]) for name in names)] for case in cases]
    )
    lines += ["", "Memory:", ""]
    lines += _rows(
        ["", *names],
        [
            ["at rest, MiB", *(f"{results[name]['rss_mib']:.0f}" for name in names)],
            [
                f"bytes per byte of {cases[-1]} bodies in flight",
                *(f"{results[name]['bytes_per_byte']:.2f}" for name in names),
            ],
        ],
    )
    return "\n".join(lines)


def plot(results: dict[str, Any], cases: list[str]) -> str:
    """A Mermaid chart of CPU per request, as multiples of vllm-router's."""
    shown = [name for name in results if name.startswith("vlserve")]
    series = [
        f"  bar [{', '.join(f'{_cpu_ms(results, name, case) / _cpu_ms(results, BASE, case):.2f}' for case in cases)}]"
        for name in shown
    ]
    axis = ", ".join(f'"{case}"' for case in cases)
    return "\n".join(
        [
            "```mermaid",
            "xychart-beta",
            f'  title "CPU per request, vllm-router = 1: {", then ".join(shown)}"',
            f"  x-axis [{axis}]",
            *series,
            "```",
        ]
    )


def write(document: pathlib.Path, results: dict[str, Any], cases: list[str]) -> None:
    """Replace what stands between the two markers of a document. Raises ValueError where they are missing."""
    text = document.read_text(encoding="utf-8")
    before, after = text.index(_BEGIN) + len(_BEGIN), text.index(_END)
    chart = f"\n\n{plot(results, cases)}" if BASE in results else ""
    document.write_text(f"{text[:before]}\n{table(results, cases)}{chart}\n{text[after:]}", encoding="utf-8")


def _rows(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def _cpu_ms(results: dict[str, Any], name: str, case: str) -> float:
    figures = results[name][case]
    return float(figures.get("c16", next(iter(figures.values())))["cpu_ms"])


def _cpu(results: dict[str, Any], name: str, case: str) -> str:
    value = _cpu_ms(results, name, case)
    ratio = f" ({value / _cpu_ms(results, BASE, case):.1f})" if BASE in results and name != BASE else ""
    return f"{value:.3g}{ratio}"


def _throughput(figures: dict[str, Any]) -> str:
    return " / ".join(f"{one['req_s']:,.3g}" for key, one in figures.items() if key != "open")


def _added(figures: dict[str, float]) -> str:
    return f"{figures['added_p50_ms']:.2f} / {figures['added_p99_ms']:.2f} ({figures['rate']:,.0f})"
