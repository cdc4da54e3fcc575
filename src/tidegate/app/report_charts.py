"""The charts of a report as plotly draws them, in the colours of the page."""

import json
import math
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np

from tidegate.app.report_text import moment, money
from tidegate.domain.ids import Nanos
from tidegate.quant.measures import drawdown_series

Ribbon = Sequence[tuple[Nanos, Nanos, str, str]]
"""Spells of scenarios in time order: from, to, name, colour."""


def equity_figure(equity: Sequence[tuple[Nanos, Decimal]], ribbon: Ribbon = ()) -> dict[str, Any]:
    """Equity above, drawdown below, and under both the ribbon of regimes where there is one; one time axis."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    times = [moment(ts) for ts, _ in equity]
    values = [float(value) for _, value in equity]
    drawdown = [None if math.isnan(depth) else -depth for depth in drawdown_series(values).tolist()]
    heights = [0.66, 0.28, 0.06] if ribbon else [0.7, 0.3]
    figure = make_subplots(
        rows=len(heights), cols=1, shared_xaxes=True, row_heights=heights, vertical_spacing=0.03 if ribbon else 0.04
    )
    style: dict[str, Any] = {"line": {"color": "var(--accent)", "width": 1.6}}
    hover = "%{x|%Y-%m-%d}<br>%{y:,.2f} USDT<extra></extra>"
    figure.add_trace(go.Scatter(x=times, y=values, hovertemplate=hover, **style), row=1, col=1)
    style = {"line": {"color": "var(--loss)", "width": 1}, "fill": "tozeroy", "fillcolor": "var(--loss-soft)"}
    hover = "%{x|%Y-%m-%d}<br>%{y:.2%}<extra></extra>"
    figure.add_trace(go.Scatter(x=times, y=drawdown, hovertemplate=hover, **style), row=2, col=1)
    figure.add_hline(y=values[0], line={"color": "var(--muted)", "width": 1, "dash": "dot"}, row=1, col=1)
    figure.update_yaxes(title_text="Equity, USDT", tickformat=",.0f", row=1, col=1)
    figure.update_yaxes(title_text="Drawdown", tickformat=".0%", row=2, col=1)
    if ribbon:
        figure.add_trace(_ribbon_trace(ribbon), row=3, col=1)
        figure.update_yaxes(showticklabels=False, showgrid=False, title_text="", row=3, col=1)
    return plain_figure(figure, height=500 if ribbon else 460)


def _ribbon_trace(ribbon: Ribbon) -> Any:
    """One row of a heat map whose columns are as wide as the spells are long."""
    import plotly.graph_objects as go

    tints = list(dict.fromkeys(tint for *_, tint in ribbon))
    steps = len(tints)
    scale = [[edge / steps, tint] for index, tint in enumerate(tints) for edge in (index, index + 1)]
    edges = [ribbon[0][0], *(until for _, until, _, _ in ribbon)]
    return go.Heatmap(
        x=[moment(each) for each in edges],
        y=["regime"],
        z=[[tints.index(tint) for *_, tint in ribbon]],
        zmin=-0.5,
        zmax=steps - 0.5,
        colorscale=scale,
        showscale=False,
        text=[[name for _, _, name, _ in ribbon]],
        hovertemplate="%{x|%Y-%m-%d}<br>%{text}<extra></extra>",
    )


def cost_figure(split: Sequence[tuple[str, Decimal]]) -> dict[str, Any]:
    """A waterfall from the price P&L to the change of equity."""
    import plotly.graph_objects as go

    amounts = [float(amount) for _, amount in split]
    figure = go.Figure(
        go.Waterfall(
            x=[label for label, _ in split],
            y=amounts,
            measure=["relative"] * (len(split) - 1) + ["total"],
            text=[money(amount) for _, amount in split],
            textposition="outside",
            cliponaxis=False,
            hoverinfo="none",
            increasing={"marker": {"color": "var(--gain)"}},
            decreasing={"marker": {"color": "var(--loss)"}},
            totals={"marker": {"color": "var(--accent)"}},
            connector={"line": {"color": "var(--muted)", "width": 1}},
        )
    )
    figure.update_yaxes(tickformat=",.0f", title_text="USDT")
    return plain_figure(figure, height=320)


def distribution_figure(nets: Sequence[float]) -> dict[str, Any]:
    """How often trades ended with which net result; a bin never spans zero."""
    import plotly.graph_objects as go

    span = max(nets) - min(nets)
    rule = float(np.subtract(*np.percentile(nets, [75, 25]))) * 2 / len(nets) ** (1 / 3)  # Freedman & Diaconis 1981
    width = min(max(rule, span / 80), span / 10) or 1.0
    first, last = math.floor(min(nets) / width), math.floor(max(nets) / width) + 1
    edges = np.arange(first, last + 1) * width
    counts, _ = np.histogram(np.clip(nets, edges[0], edges[-1]), edges)
    figure = go.Figure(
        go.Bar(
            x=((edges[:-1] + edges[1:]) / 2).tolist(),
            y=counts.tolist(),
            width=width * 0.94,
            marker={"color": ["var(--loss)" if edge < -width / 2 else "var(--gain)" for edge in edges[:-1]]},
            customdata=[f"{money(low)} to {money(high)}" for low, high in pairwise(edges)],
            hovertemplate="%{customdata} USDT<br>%{y} trades<extra></extra>",
        )
    )
    figure.update_xaxes(title_text="Net result of a trade, USDT", tickformat=",")
    figure.update_yaxes(title_text="Trades")
    return plain_figure(figure, height=320)


def plain_figure(figure: Any, height: int) -> dict[str, Any]:
    """The figure as JSON values, in the page's colours and without plotly's own template."""
    figure.update_layout(
        template="none",
        height=height,
        showlegend=False,
        margin={"l": 64, "r": 16, "t": 20, "b": 36},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": "var(--ink)", "size": 12},
        hoverlabel={"bgcolor": "var(--card)", "font": {"color": "var(--ink)"}, "bordercolor": "var(--line)"},
    )
    axis = {"gridcolor": "var(--line)", "zerolinecolor": "var(--muted)", "linecolor": "var(--line)"}
    figure.update_xaxes(automargin=True, **axis)
    figure.update_yaxes(automargin=True, title_standoff=12, **axis)
    plain: dict[str, Any] = json.loads(figure.to_json())
    return plain
