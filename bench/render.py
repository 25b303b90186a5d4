"""From results to what people read: a table for the terminal, the same as Markdown, and a plot as SVG."""

from __future__ import annotations

import math
import statistics
from html import escape

from harness import Comparison, Result, Series


def number(value: float) -> str:
    """Three significant digits."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def spread(values: list[float]) -> str:
    """The median, and what the least and the most were."""
    middle = number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({number(min(values))} to {number(max(values))})"


def verdict(met: bool | None) -> str:
    return {None: "", True: "met", False: "missed"}[met]


def comparison_cells(row: Comparison) -> list[str]:
    ratio = spread(row.ratios) + (" times faster" if row.faster else "")
    limit = "" if row.limit is None else f"{'at least' if row.faster else 'at most'} {row.limit:g}"
    ours, theirs = (f"{spread(values)} {row.unit}" for values in (row.ours, row.theirs))
    return [row.title, ours, row.other, theirs, ratio, limit, verdict(row.met)]


def series_cells(row: Series) -> list[str]:
    points = ", ".join(f"{label}: {spread(values)}" for label, values in row.points)
    limits = []
    if row.ceiling is not None:
        limits.append(f"at most {row.ceiling:g} {row.unit}")
    if row.limit is not None:
        limits.append(f"growth at most {row.limit:g}")
    return [row.title, f"{points} {row.unit}", number(row.growth), ", ".join(limits), verdict(row.met)]


COMPARISON_HEAD = ["what", "milvus-handoff", "compared with", "that takes", "ratio", "target", ""]
SERIES_HEAD = ["what", "measured", "last / first", "target", ""]


def tables(result: Result) -> list[tuple[list[str], list[list[str]]]]:
    made = []
    if result.comparisons:
        made.append((COMPARISON_HEAD, [comparison_cells(row) for row in result.comparisons]))
    if result.series:
        made.append((SERIES_HEAD, [series_cells(row) for row in result.series]))
    return made


def text(result: Result) -> str:
    blocks = []
    for head, rows in tables(result):
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in [head, *rows]]
        blocks.append("\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]]))
    return "\n\n".join(blocks)


def markdown(result: Result) -> str:
    blocks = []
    for head, rows in tables(result):
        lines = ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]
        blocks.append("\n".join(lines))
    notes = [f"- {row.title}: {row.notes}." for row in result.comparisons + result.series if row.notes]
    if notes:
        blocks.append("\n".join(notes))
    return "\n\n".join(blocks)


# --- the plot ---------------------------------------------------------------------------------------------------------

WIDTH, LEFT, RIGHT, LINE = 860, 300, 60, 32
STYLE = """
    text { font: 13px system-ui, sans-serif; fill: #24292f }
    .head { font-weight: 600; font-size: 14px }
    .small { font-size: 11px; fill: #57606a }
    line { stroke-width: 2 }
    .grid { stroke: #d0d7de; stroke-width: 1 }
    .target { stroke: #9a6700 }
    .met { fill: #1a7f37; stroke: #1a7f37 }
    .missed { fill: #cf222e; stroke: #cf222e }
    .plain { fill: #0969da; stroke: #0969da }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 }
      .small { fill: #9198a1 }
      .grid { stroke: #3d444d }
      .target { stroke: #d29922 }
      .met { fill: #3fb950; stroke: #3fb950 }
      .missed { fill: #f85149; stroke: #f85149 }
      .plain { fill: #4493f8; stroke: #4493f8 }
    }
"""


class Canvas:
    """Lines of SVG, from the top down."""

    def __init__(self) -> None:
        self.y = 8.0
        self.parts: list[str] = []

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> None:
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>')

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>')

    def dot(self, x: float, y: float, kind: str) -> None:
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" class="{kind}"/>')

    def head(self, words: str, more: str = "") -> None:
        self.y += 20
        self.text(10, self.y, words, "head")
        if more:
            self.y += 16
            self.text(10, self.y, more, "small")
        self.y += 14

    def done(self) -> str:
        body = "\n  ".join(self.parts)
        height = self.y + 10
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
            f'height="{height:.0f}" role="img">\n  <style>{STYLE}  </style>\n  {body}\n</svg>\n'
        )


def scale(low: float, high: float):
    """A logarithmic axis between the margins."""
    low, high = math.log(low), math.log(high)
    return lambda value: LEFT + (WIDTH - LEFT - RIGHT) * (math.log(value) - low) / (high - low)


def ratios(canvas: Canvas, rows: list[Comparison]) -> None:
    """One line each: the median, the least and the most, and a tick where the target is."""
    every = [v for row in rows for v in row.ratios] + [row.limit for row in rows if row.limit is not None]
    x = scale(min(*every, 0.9) / 1.1, max(*every, 2) * 1.1)
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if LEFT <= x(t) <= WIDTH - RIGHT]
    top = canvas.y
    bottom = top + LINE * len(rows) + 4
    for tick in ticks:
        canvas.line(x(tick), top, x(tick), bottom, "grid")
        canvas.text(x(tick), bottom + 14, f"{tick:g}", "small", "middle")
    for row in rows:
        middle = canvas.y + LINE / 2
        kind = {None: "plain", True: "met", False: "missed"}[row.met]
        canvas.text(LEFT - 12, middle - 2, row.title, "", "end")
        canvas.text(LEFT - 12, middle + 11, f"against {row.other}", "small", "end")
        canvas.line(x(min(row.ratios)), middle, x(max(row.ratios)), middle, kind)
        if row.limit is not None:
            canvas.line(x(row.limit), middle - 9, x(row.limit), middle + 9, "target")
        canvas.dot(x(row.ratio), middle, kind)
        canvas.text(WIDTH - RIGHT + 8, middle + 4, number(row.ratio))
        canvas.y += LINE
    canvas.y = bottom + 20


def bars(canvas: Canvas, row: Series) -> None:
    """The points of a series as bars, to a common scale from zero."""
    most = max([row.median(i) for i in range(len(row.points))] + [row.ceiling or 0]) * 1.05
    width = (WIDTH - LEFT - RIGHT) / most
    top = canvas.y
    for index, (label, _) in enumerate(row.points):
        middle = canvas.y + 9
        value = row.median(index)
        kind = {None: "plain", True: "met", False: "missed"}[row.met]
        words = f"{row.title}: {label}" if index == 0 else label
        canvas.text(LEFT - 12, middle + 4, words, "", "end")
        canvas.parts.append(
            f'<rect x="{LEFT}" y="{middle - 6:.1f}" width="{max(1, value * width):.1f}" height="12" class="{kind}"/>'
        )
        canvas.text(WIDTH - RIGHT + 8, middle + 4, number(value))
        canvas.y += 19
    if row.ceiling is not None:
        canvas.line(LEFT + row.ceiling * width, top, LEFT + row.ceiling * width, canvas.y, "target")
    canvas.y += 8


def svg(result: Result) -> str:
    canvas = Canvas()
    costs = [row for row in result.comparisons if not row.faster]
    factors = [row for row in result.comparisons if row.faster]
    if costs:
        canvas.head("Cost, as a ratio", "dot: median of neighbouring runs; line: least to most; tick: target. Lower is better.")
        ratios(canvas, costs)
    if factors:
        canvas.head("Times faster than what people use today", "tick: target. Higher is better.")
        ratios(canvas, factors)
    for section, words in [("memory", "Peak memory, MiB"), ("growth", "Cost per row as rows grow, µs")]:
        rows = [row for row in result.series if row.section == section]
        if rows:
            canvas.head(words)
        for row in rows:
            bars(canvas, row)
    return canvas.done()
