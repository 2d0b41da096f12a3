"""The report as one HTML file: the findings, then the run as pictures. It loads nothing, and needs no script."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from covlab import junit
from covlab.watch.event_ledger import Row
from covlab.watch.finding import Finding
from covlab.watch.invariant_pages import guidance
from covlab.watch.report import MARKS, Report

WIDTH, HEIGHT = 480, 220  # of a picture, in its own units
LEFT, RIGHT, TOP, BOTTOM = 74, 12, 12, 40  # margins around its curves
MOST_POINTS = 300  # of a curve; of more, the smallest and the largest of each stretch are drawn
MOST_CURVES = 4
LOG_FROM = 50.0  # ratio of the largest to the smallest value from which the axis is logarithmic

STYLE = """
:root { color-scheme: light dark; --back: #fff; --card: #f5f6f8; --text: #1d2129; --dim: #5a6270; --line: #d5d9e0;
  --fault: #b3261e; --warning: #7a5200; --note: #005a9c; --fix: #1b6e3a;
  --c0: #0072b2; --c1: #c04a00; --c2: #00795a; --c3: #9a4d7c; }
@media (prefers-color-scheme: dark) { :root { --back: #14171c; --card: #1e2229; --text: #e6e8ec; --dim: #a0a8b5;
  --line: #3a414c; --fault: #ff8a80; --warning: #f0c060; --note: #7cc4ff; --fix: #7fd8a0;
  --c0: #56b4e9; --c1: #ff9d5c; --c2: #3fcfa4; --c3: #e0a0c8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 46rem; background: var(--back); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 0 0 .4rem; } p { margin: .4rem 0; }
article { background: var(--card); border-left: .3rem solid var(--mark); border-radius: .3rem; padding: .8rem 1rem;
  margin: .8rem 0; }
.fault { --mark: var(--fault); } .warning { --mark: var(--warning); } .note { --mark: var(--note); }
.verdict { color: var(--mark); font-weight: 700; } .fix { color: var(--fix); } .dim { color: var(--dim); }
code { font: .9em ui-monospace, monospace; } pre { white-space: pre-wrap; font-size: .85rem; }
details { margin: .4rem 0; } summary { cursor: pointer; color: var(--dim); }
figure { margin: 1.2rem 0; max-width: 36rem; } figcaption { font-weight: 600; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--dim); font: 14px system-ui, sans-serif; } svg line { stroke: var(--line); }
svg path { fill: none; stroke-width: 2; } .legend span { margin-right: 1rem; white-space: nowrap; }
"""


@dataclass(frozen=True)
class Curve:
    """Values along a run. A value that is not finite is marked at the top."""

    name: str
    points: list[tuple[float, float]]  #: (number of the step, value)


def write_html(report: Report, rows: Sequence[Row], path: Path | str) -> None:
    """Write the report and pictures of the ledger's rows as one page."""
    Path(path).write_text(html_page(report, rows), encoding="utf-8")


def html_page(report: Report, rows: Sequence[Row]) -> str:
    """Return the report and pictures of the ledger's rows as one page."""
    steps = [row for row in rows if row["event"] == "step"]
    pictures = "\n".join(_pictures(steps))
    parts = [
        f"<h1>{_text(report.title)}</h1>",
        f"<p>{_text(report.summary)}.</p>",
        "<h2>Findings</h2>" if report.findings else "",
        *(_article(finding) for finding in report.findings),
        _unchecked(report),
        *(f"<p>{_text(line)}</p>" for line in report.set_apart()),
        f"<h2>The run</h2>\n{pictures}" if pictures else "",
    ]
    body = "\n".join(filter(None, parts))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(report.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        "</body>\n</html>\n"
    )


def _text(text: str) -> str:
    return escape(junit.printable(text))


def _article(finding: Finding) -> str:
    where = ""
    if finding.location is not None:
        where = f"<p><code>{_text(finding.location.quoted)}</code></p>"
    when = f'<p class="dim">{_text(finding.when)}</p>' if finding.when else ""
    follows = "".join(
        f"<li>{one.code} {_text(one.title)}: {_text(one.says)}{f' ({one.on_ranks})' if one.ranks else ''}</li>"
        for one in finding.follows
    )
    _, _, page = guidance(finding.code)
    return (
        f'<article class="{finding.verdict}">\n'
        f'<h3><span class="verdict">{MARKS[finding.verdict]} {finding.verdict} {finding.code}</span> '
        f"{_text(finding.title)}</h3>\n<p>{_text(finding.says)}</p>\n{where}{when}"
        f'<p class="fix">→ {_text(finding.fix)}</p>\n'
        + (f"<p>It explains:</p>\n<ul>{follows}</ul>\n" if follows else "")
        + f"<details><summary>More about {finding.code}</summary><pre>{_text(page)}</pre></details>\n</article>"
    )


def _unchecked(report: Report) -> str:
    if not report.unchecked:
        return ""
    items = "".join(f"<li>{code}: {_text(why)}</li>" for code, why in report.unchecked.items())
    return f"<details><summary>Not checked: {len(report.unchecked)} invariants</summary>\n<ul>{items}</ul></details>"


# ---------------------------------------------------------------- pictures


def _pictures(steps: list[Row]) -> Iterator[str]:
    """Yield a figure for everything that was seen."""
    by_optimizer: dict[object, list[Row]] = {}
    for row in steps:
        by_optimizer.setdefault(row["optimizer"], []).append(row)
    groups = list(by_optimizer.items())[:MOST_CURVES]

    def curves(name: str, values: Callable[[Row], Sequence[float | None]]) -> list[Curve]:
        found = []
        for number, (_, rows) in enumerate(groups, 1):
            label = f"{name}, optimizer {number}" if len(groups) > 1 else name
            found.append(Curve(label, list(_along(rows, values))))
        return [curve for curve in found if curve.points]

    def one(key: str) -> Callable[[Row], Sequence[float | None]]:
        return lambda row: [_number(row[key])]

    yield from _figure("Loss of each backward", "loss", curves("loss", _losses))
    yield from _figure("Weight of each micro-batch in its window", "weight", curves("weight", _several("weights")))
    yield from _figure("Norm of the gradients before clipping", "norm", curves("norm", one("gradient_norm")))
    yield from _figure("Loss scale", "loss scale", curves("loss scale", one("loss_scale")))
    yield from _figure("Learning rate", "learning rate", curves("largest learning rate", _largest_rate))
    moved = curves("tensors", one("tensors_moved"))
    yield from _figure("Tensors that moved in a step, of the 16 largest", "tensors", moved)


def _along(rows: list[Row], values: Callable[[Row], Sequence[float | None]]) -> Iterator[tuple[float, float]]:
    """Yield the values of each row, spread over its step."""
    for row in rows:
        several = values(row)
        for place, value in enumerate(several):
            if value is not None:
                yield float(str(row["step"])) + place / len(several), value


def _number(value: object) -> float | None:
    """Return a number of the ledger, where numbers that are not finite are texts."""
    return None if value is None else float(str(value))


def _ratio(value: object, divisor: object) -> float | None:
    number, factor = _number(value), _number(divisor)
    return number if number is None or not factor else number / factor


def _several(key: str) -> Callable[[Row], Sequence[float | None]]:
    def values(row: Row) -> Sequence[float | None]:
        found = row[key]
        return [_number(one) for one in found] if isinstance(found, list) else []

    return values


def _losses(row: Row) -> Sequence[float | None]:
    """Return the losses of a step as they were before they were scaled."""
    return [_ratio(loss, row["loss_scale"]) for loss in _several("losses")(row)]


def _largest_rate(row: Row) -> Sequence[float | None]:
    return [max((rate for rate in _several("learning_rates")(row) if rate is not None), default=None)]


def _figure(title: str, unit: str, curves: list[Curve]) -> Iterator[str]:
    """Yield a figure with the curves, if there is a point to draw."""
    values = [value for curve in curves for _, value in curve.points]
    finite = [value for value in values if math.isfinite(value)]
    if not values:
        return
    axis = _Axis(finite)
    steps = [step for curve in curves for step, _ in curve.points]
    first, last = min(steps), max(steps)

    def x(step: float) -> float:
        return LEFT + (step - first) / ((last - first) or 1) * (WIDTH - LEFT - RIGHT)

    not_finite = len(values) - len(finite)
    told = f"{title}, steps {first:.0f} to {math.floor(last)}. " + (
        f"From {min(finite):.3g} to {max(finite):.3g}. " if finite else ""
    )
    told += f"{not_finite} values are NaN or infinite." if not_finite else ""
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{_text(told.strip())}">']
    for tick in axis.ticks:
        y = axis.y(tick)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 5:.1f}" text-anchor="end">{tick:.4g}</text>')
    bottom = HEIGHT - BOTTOM + 18
    parts.append(f'<text x="{LEFT}" y="{bottom}">{first:.0f}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{bottom}" text-anchor="end">{math.floor(last)}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{bottom + 12}" text-anchor="middle">step of the optimizer</text>')
    scale = f"{unit} (log)" if axis.is_logarithmic else unit
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(f'<text transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">{escape(scale)}</text>')
    for number, curve in enumerate(curves):
        parts += _drawn(curve, f"var(--c{number % 4})", x, axis)
    parts.append("</svg>")
    legend = "".join(
        f'<span style="color: var(--c{number % 4})">● {_text(curve.name)}</span>' for number, curve in enumerate(curves)
    )
    extra = f'<p class="legend">{legend}</p>' if len(curves) > 1 else ""
    if not_finite:
        extra += f'<p class="fault"><span class="verdict">× NaN or infinite: {not_finite} values</span></p>'
    yield f"<figure>\n<figcaption>{_text(title)}</figcaption>\n{''.join(parts)}\n{extra}</figure>"


def _drawn(curve: Curve, color: str, x: Callable[[float], float], axis: "_Axis") -> Iterator[str]:
    """Yield the curve, which is broken where a value is not finite, and a cross at the top for such a value."""
    path, crosses, is_broken = [], [], True
    for step, value in _thinned(curve.points):
        if math.isfinite(value):
            path.append(f"{'M' if is_broken else 'L'}{x(step):.1f} {axis.y(value):.1f}")
        else:
            crosses.append(f"M{x(step) - 4:.1f} {TOP}l8 8m0 -8l-8 8")
        is_broken = not math.isfinite(value)
    style = f'stroke="{color}" stroke-linecap="round"'
    if path:  # a single point is a line of no length, which its round ends make visible
        yield f'<path {style} d="{"".join(path)}h.01"/>'
    if crosses:
        yield f'<path stroke="var(--fault)" d="{"".join(crosses)}"/>'


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points, or of many points the smallest and the largest of each stretch, and all that are not finite.

    Of those that are not finite, at most one per stretch is kept.
    """
    if len(points) <= MOST_POINTS:
        return points
    size = math.ceil(2 * len(points) / MOST_POINTS)
    kept = []
    for start in range(0, len(points), size):
        stretch = points[start : start + size]
        finite = [point for point in stretch if math.isfinite(point[1])]
        others = [point for point in stretch if not math.isfinite(point[1])][:1]
        ends = {min(finite, key=lambda one: one[1]), max(finite, key=lambda one: one[1])} if finite else set()
        kept += sorted([*ends, *others], key=lambda one: one[0])
    return kept


class _Axis:
    """A vertical axis for these values, logarithmic if they are positive and far apart."""

    def __init__(self, values: list[float]) -> None:
        low, high = min(map(_bounded, values), default=0.0), max(map(_bounded, values), default=1.0)
        self.is_logarithmic = low > 0 and high / low >= LOG_FROM
        if self.is_logarithmic:
            first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
            every = max(1, math.ceil((last - first) / 5))
            self.ticks = [10.0**power for power in range(first, last + every, every)]
        else:
            low = min(low, 0.0) if low < 0.5 * high else low
            margin = abs(high) or 1.0
            if high - low < 1e-6 * margin:
                low, high = (0.0, 2 * high) if high > 0 else (high - margin, high + margin)
            step = _round_step((high - low) / 4)
            first = math.floor(low / step + 1e-9)
            last = math.ceil(high / step - 1e-9)
            self.ticks = [number * step for number in range(first, last + 1)]
        self.low, self.high = self._scaled(self.ticks[0]), self._scaled(self.ticks[-1])

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.is_logarithmic else value

    def y(self, value: float) -> float:
        share = (self._scaled(_bounded(value)) - self.low) / ((self.high - self.low) or 1.0)
        return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)


def _bounded(value: float) -> float:
    """Return the nearest value that an axis has room for."""
    return math.copysign(min(max(abs(value), 1e-250), 1e250), value) if value else 0.0


def _round_step(size: float) -> float:
    """Return the smallest of 1, 2, 5 times a power of ten that is at least ``size``."""
    power = 10.0 ** math.floor(math.log10(size))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= size * (1 - 1e-9))
