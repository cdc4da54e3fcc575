"""The charts of a book of several strategies: weights and results through time, exposures, risk, what bound."""

from collections.abc import Mapping, Sequence
from typing import Any

from tidegate.app.report_charts import plain_figure
from tidegate.app.report_text import moment, money
from tidegate.domain.ids import Nanos
from tidegate.domain.signals import BookRisk, RegimeChanged

_DIVERGING = [[0.0, "var(--loss)"], [0.5, "var(--card)"], [1.0, "var(--gain)"]]


def colour(index: int) -> str:
    """The colour of the strategy of this place in the configuration."""
    return f"var(--c{index % 8})"


def strategies_figure(
    names: Sequence[str],
    regimes: Sequence[RegimeChanged],
    results: Mapping[str, Sequence[float]],
    days_ns: Sequence[Nanos],
    last_ns: Nanos,
) -> dict[str, Any]:
    """Cumulated net results by account above, shares of the risk budget below where regimes set them."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    rows = 2 if regimes else 1
    figure = make_subplots(rows=rows, cols=1, shared_xaxes=True, vertical_spacing=0.07)
    days = [moment(each) for each in days_ns]
    accounts = [*names, *(name for name in results if name not in names)]
    for index, name in enumerate(accounts):
        if name in results:
            line = {"color": colour(index), "width": 1.8 if name in names else 1.2}
            if name not in names:
                line["dash"] = "dot"
            hover = "%{x|%Y-%m-%d}<br>%{y:,.2f} USDT"
            figure.add_trace(
                go.Scatter(x=days, y=list(results[name]), name=name, legendgroup=name, line=line, hovertemplate=hover),
                row=1,
                col=1,
            )
    figure.update_yaxes(title_text="Net result, USDT", tickformat=",.0f", row=1, col=1)
    if regimes:
        times = [moment(each.ts_ns) for each in regimes] + [moment(last_ns)]
        shares = [dict(each.weights) for each in regimes]
        for index, name in enumerate(names):
            column = [each.get(name, 0.0) for each in shares]  # type: ignore[call-overload]
            figure.add_trace(
                go.Scatter(
                    x=times,
                    y=[*column, column[-1]],
                    name=name,
                    legendgroup=name,
                    showlegend=name not in results,
                    stackgroup="weights",
                    line={"shape": "hv", "width": 0.5, "color": colour(index)},
                    fillcolor=colour(index),
                    hovertemplate="%{x|%Y-%m-%d %H:%M}<br>%{y:.1%} of the risk budget",
                ),
                row=2,
                col=1,
            )
        figure.update_yaxes(title_text="Share of budget", tickformat=".0%", range=[0, 1], row=2, col=1)
    return _with_legend(plain_figure(figure, height=300 + 200 * (rows - 1)))


def exposure_figure(risks: Sequence[BookRisk]) -> dict[str, Any]:
    """Gross and net exposure, the weight of each instrument, and its part of the volatility, day by day."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    instruments = list(dict.fromkeys(name for each in risks for name, _ in each.weights))
    days = [moment(each.ts_ns) for each in risks]
    tall = max(1, len(instruments))
    figure = make_subplots(
        rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.04, row_heights=[6, 1 + tall, 1 + tall]
    )
    gross = [sum(abs(weight) for _, weight in each.weights) for each in risks]
    net = [sum(weight for _, weight in each.weights) for each in risks]
    for name, column, tint in (("gross", gross, "var(--muted)"), ("net", net, "var(--accent)")):
        figure.add_trace(
            go.Scatter(
                x=days,
                y=column,
                name=name,
                line={"color": tint, "width": 1.4},
                hovertemplate="%{x|%Y-%m-%d}<br>%{y:.1%} of equity",
            ),
            row=1,
            col=1,
        )
    for row, field, title, said in (
        (2, "weights", "Weight", "of equity"),
        (3, "risk_shares", "Risk", "of the volatility"),
    ):
        table = [dict(getattr(each, field)) for each in risks]
        cells = [[each.get(name) for each in table] for name in instruments]
        most = max((abs(value) for line in cells for value in line if value is not None), default=1.0) or 1.0
        figure.add_trace(
            go.Heatmap(
                x=days,
                y=instruments,
                z=cells,
                zmin=-most,
                zmax=most,
                colorscale=_DIVERGING,
                showscale=False,
                hoverongaps=False,
                hovertemplate="%{x|%Y-%m-%d} %{y}<br>%{z:.1%} " + said + "<extra></extra>",
            ),
            row=row,
            col=1,
        )
        figure.update_yaxes(title_text=title, autorange="reversed", showgrid=False, row=row, col=1)
    figure.update_yaxes(title_text="Exposure", tickformat=".0%", row=1, col=1)
    return _with_legend(plain_figure(figure, height=240 + 2 * (30 + 20 * tall)))


def risk_figure(risks: Sequence[BookRisk]) -> dict[str, Any]:
    """Volatility, value at risk, and the factor that the drawdown brake leaves of the exposure."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    days = [moment(each.ts_ns) for each in risks]
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.06, row_heights=[1, 1, 0.7])
    lines = (
        (1, "volatility, a year", [each.volatility for each in risks], "var(--accent)"),
        (2, "value at risk, a day, 95 %", [each.var_frac for each in risks], "var(--c3)"),
        (2, "expected shortfall, a day, 95 %", [each.cvar_frac for each in risks], "var(--loss)"),
        (3, "exposure that the brake leaves", [each.exposure for each in risks], "var(--muted)"),
    )
    for row, name, column, tint in lines:
        hover = "%{x|%Y-%m-%d}<br>%{y:.2%}"
        figure.add_trace(
            go.Scatter(x=days, y=column, name=name, line={"color": tint, "width": 1.4}, hovertemplate=hover),
            row=row,
            col=1,
        )
    figure.update_yaxes(title_text="Volatility", tickformat=".0%", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title_text="Loss", tickformat=".1%", rangemode="tozero", row=2, col=1)
    figure.update_yaxes(title_text="Brake", tickformat=".0%", range=[0, 1.05], row=3, col=1)
    return _with_legend(plain_figure(figure, height=420))


def grid_figure(rows: Sequence[str], columns: Sequence[str], nets: Mapping[tuple[str, str], float]) -> dict[str, Any]:
    """Net results in USDT by two of strategy, instrument and scenario, with the amount in each field."""
    import plotly.graph_objects as go

    cells = [[nets.get((row, column)) for column in columns] for row in rows]
    most = max((abs(value) for value in nets.values()), default=1.0) or 1.0
    figure = go.Figure(
        go.Heatmap(
            x=list(columns),
            y=list(rows),
            z=cells,
            zmin=-1.6 * most,
            zmax=1.6 * most,
            colorscale=_DIVERGING,
            showscale=False,
            text=[["" if value is None else f"{round(value) or 0:,}" for value in line] for line in cells],
            texttemplate="%{text}",
            customdata=[["" if value is None else money(value) for value in line] for line in cells],
            hovertemplate="%{y}, %{x}<br>%{customdata} USDT<extra></extra>",
            hoverongaps=False,
            xgap=2,
            ygap=2,
        )
    )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    small = {"size": 10 if len(columns) < 8 else 8.5}
    figure.update_xaxes(
        showgrid=False,
        side="top",
        tickangle=0,
        tickfont=small,
        tickvals=list(columns),
        ticktext=[each.replace("_", "<br>") for each in columns],
    )
    drawn = plain_figure(figure, height=90 + 34 * len(rows))
    drawn["layout"]["margin"] |= {"t": 44, "b": 8}
    return drawn


def bindings_figure(bindings: Mapping[str, int]) -> dict[str, Any]:
    """How often each limit bound a new target."""
    import plotly.graph_objects as go

    names = [each.replace("_", " ") for each in bindings]
    counts = list(bindings.values())
    figure = go.Figure(
        go.Bar(
            x=counts,
            y=names,
            orientation="h",
            marker={"color": "var(--accent)"},
            text=[f"{each:,}" for each in counts],
            textposition="outside",
            cliponaxis=False,
            hoverinfo="none",
        )
    )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(title_text="Targets", tickformat=",", range=[0, max(counts, default=1) * 1.15])
    return plain_figure(figure, height=90 + 26 * len(names))


def _with_legend(drawn: dict[str, Any]) -> dict[str, Any]:
    drawn["layout"] |= {
        "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "bgcolor": "rgba(0,0,0,0)"},
    }
    drawn["layout"]["margin"] |= {"t": 34}
    return drawn
