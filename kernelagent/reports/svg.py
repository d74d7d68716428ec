"""Small inline SVG charts, written by hand: no dependency, a few kilobytes each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

BAR_HEIGHT = 22
LABEL_WIDTH = 210
CHART_WIDTH = 420


@dataclass(frozen=True)
class Bar:
    """One labelled bar: `fraction` of the speed of light in [0, 1], `note` printed behind it."""

    label: str
    fraction: float
    note: str
    faded: bool = False


def gap_chart(bars: Sequence[Bar]) -> str:
    """Horizontal bars: how much of the bound is reached; the line at the right end is the bound itself."""
    height = BAR_HEIGHT * len(bars) + 24
    width = LABEL_WIDTH + CHART_WIDTH + 190
    rows = [_bar(bar, 18 + i * BAR_HEIGHT) for i, bar in enumerate(bars)]
    end = LABEL_WIDTH + CHART_WIDTH
    bound = f'<line x1="{end}" y1="12" x2="{end}" y2="{height - 4}" class="bound"/>'
    title = f'<text x="{end}" y="9" text-anchor="middle" class="small">bound</text>'
    return _svg(width, height, [*rows, bound, title], "share of the bound reached per problem")


def _bar(bar: Bar, y: int) -> str:
    length = max(1.0, min(bar.fraction, 1.0) * CHART_WIDTH)
    kind = "bar faded" if bar.faded else "bar"
    return (
        f'<text x="{LABEL_WIDTH - 8}" y="{y + 12}" text-anchor="end">{escape(bar.label)}</text>'
        f'<rect x="{LABEL_WIDTH}" y="{y}" width="{length:.1f}" height="{BAR_HEIGHT - 6}" class="{kind}"/>'
        f'<text x="{LABEL_WIDTH + CHART_WIDTH + 10}" y="{y + 12}" class="small">{escape(bar.note)}</text>'
    )


def progress_chart(
    points: Sequence[tuple[int, float]], bound_ms: float | None, width: int = 260, height: int = 64
) -> str:
    """Best time so far (logarithmic) over trials; the dashed line is the bound."""
    if not points:
        return ""
    floor = min([t for _, t in points] + ([bound_ms] if bound_ms else []))
    low, high = math.log(floor), math.log(max(t for _, t in points))
    last = max(n for n, _ in points)

    def place(number: int, time_ms: float) -> tuple[float, float]:
        x = 6 + (width - 12) * (number / last if last else 0)
        y = height - 8 - (height - 16) * ((math.log(time_ms) - low) / (high - low) if high > low else 0.5)
        return x, y

    parts = [f'<path d="{_steps([place(n, t) for n, t in points])}" class="line"/>']
    if bound_ms:
        y = place(0, bound_ms)[1]
        parts.append(f'<line x1="6" y1="{y:.1f}" x2="{width - 6}" y2="{y:.1f}" class="dashed"/>')
    x, y = place(*points[-1])
    parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" class="dot"/>')
    return _svg(width, height, parts, "best time so far over trials")


def _steps(points: Sequence[tuple[float, float]]) -> str:
    """A best-so-far curve is a staircase: it stays level until the next improvement."""
    x, y = points[0]
    path = [f"M{x:.1f} {y:.1f}"]
    path += [f"H{x:.1f} V{y:.1f}" for x, y in points[1:]]
    return " ".join(path)


def _svg(width: int, height: int, parts: Sequence[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(title)}" xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )
