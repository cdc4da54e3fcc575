"""The HTML report: everything on one page, nothing from elsewhere, all or nothing on disk."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tidegate.app import report_text
from tidegate.app.contributions import attribution_difference, other_accounts, scenario_share, strategy_figures
from tidegate.app.performance import summarise
from tidegate.app.report import write_report
from tidegate.app.result import BacktestResult
from tidegate.app.tally import plain
from tidegate.domain.ids import InstrumentId, StrategyId
from tidegate.domain.market import DAY_NS, HOUR_NS
from tidegate.domain.messages import Halt, HaltCause
from tidegate.domain.round_trips import RoundTrip
from tidegate.domain.signals import BookRisk, RegimeChanged, Scenario, StrategyResult

START_NS = int(datetime(2021, 3, 10, tzinfo=UTC).timestamp()) * 1_000_000_000
PRICES = {"BTCUSDT": 42_000.0, "ETHUSDT": 2_600.0, "SOLUSDT": 95.0}
CENT = Decimal("0.01")


def money(value: float) -> Decimal:
    return Decimal(value).quantize(CENT)


def invented_trades(count: int, rng: np.random.Generator) -> list[RoundTrip]:
    trades = []
    names = list(PRICES)
    gaps_h = rng.integers(6, 2 * 1_050 * 24 // count - 6, count).cumsum()
    for opened_h in gaps_h:
        name = names[rng.integers(3)]
        entry = PRICES[name] * float(np.exp(0.3 * rng.standard_normal()))
        move = 0.02 * float(rng.standard_t(3)) + 0.004
        qty = 4_000 / entry
        side = 1 if rng.random() < 0.55 else -1
        trades.append(
            RoundTrip(
                instrument=InstrumentId(name),
                side=side,
                opened_ns=START_NS + int(opened_h) * HOUR_NS,
                closed_ns=START_NS + (int(opened_h) + int(rng.integers(2, 80))) * HOUR_NS,
                max_qty=Decimal(qty).quantize(Decimal("0.001")),
                entry_price=money(entry),
                exit_price=money(entry * (1 + side * move)),
                price_pnl=money(4_000 * move),
                slippage=money(0.8),
                fees=money(4.0),
                funding=money(-1.2 * side),
                exit_reason=("target", "protection", "protection", "end")[rng.integers(4)],
            )
        )
    return trades


def invented_result(trades: int = 300, seed: int = 11) -> BacktestResult:
    """A made-up run of 1,100 days whose equity is the sum of its trades, each day with some noise between."""
    rng = np.random.default_rng(seed)
    rows = invented_trades(trades, rng) if trades else []
    days = 1_100
    closed = np.zeros(days + 1)
    for trade in rows:
        closed[min((trade.closed_ns - START_NS) // DAY_NS + 1, days)] += float(trade.net)
    noise = np.append(60.0 * rng.standard_normal(days), 0.0)
    equity = [
        (START_NS + i * DAY_NS, money(10_000 + total + noise[i] * (i > 0))) for i, total in enumerate(closed.cumsum())
    ]
    totals = {
        "fees_usdt": sum((row.fees for row in rows), Decimal(0)),
        "slippage_usdt": sum((row.slippage for row in rows), Decimal(0)),
        "funding_usdt": sum((row.funding for row in rows), Decimal(0)),
    }
    summary: dict[str, object] = {
        "bars": 79_200,
        "orders": 2 * len(rows) + 41,
        "fills": 2 * len(rows),
        "trades": len(rows),
        **{key: str(value) for key, value in totals.items()},
        "final_equity_usdt": str(equity[-1][1]),
        **summarise(equity),
        "turnover": 231.4567,
        "ledger_difference_usdt": "0",
        "bars_per_s": 251_234.5,
        "data_sha256": "3f" * 32,
        "config_sha256": "a7" * 32,
    }
    per_symbol: dict[InstrumentId, dict[str, object]] = {}
    for name in PRICES:
        own = [row for row in rows if row.instrument == name]
        per_symbol[InstrumentId(name)] = {
            "trades": len(own),
            "net_usdt": str(sum((row.net for row in own), Decimal(0))),
            "fees_usdt": str(sum((row.fees for row in own), Decimal(0))),
            "funding_usdt": str(sum((row.funding for row in own), Decimal(0))),
            "slippage_usdt": str(sum((row.slippage for row in own), Decimal(0))),
            "win_rate": sum(row.net > 0 for row in own) / len(own) if own else None,
        }
    return BacktestResult(
        summary=summary,
        equity=equity,
        trades=rows,
        per_symbol=per_symbol,
        assumptions=[
            "Market orders that are decided at a close fill at the open of the next bar.",
            "Taker fee 0.05 %, maker fee 0.02 %.",
            "Slippage: 1 bp of the reference price on every market fill.",
            "Funding is paid at each settlement on the mark price; where no mark price is stored, on the last price.",
        ],
        settings={
            "symbols": list(PRICES),
            "timeframe": "1h",
            "strategies": [{"class": "TrendFollowing", "name": "trend", "params": {"fast_bars": 20, "slow_bars": 80}}],
            "risk": {"initial_capital_usdt": 10_000.0, "max_leverage": 3.0},
            "seed": 7,
        },
        warnings=["SOLUSDT has no stored mark price for 312 hours: the last price stood in."],
    )


STRATEGIES = ("trend", "range")


def invented_book(seed: int = 5) -> BacktestResult:
    """The made-up run as that of two strategies: its daily results divided at random, exact to the last digit."""
    result = invented_result(trades=60, seed=seed)
    rng = np.random.default_rng(seed)
    said, scenarios = result.chronicle, list(Scenario)
    scenario = Scenario.UNKNOWN
    for (since, before), (until, after) in pairwise(result.equity):
        if rng.random() < 0.1:
            scenario = scenarios[rng.integers(9)]
            weights = ((StrategyId("trend"), 0.5), (StrategyId("range"), 0.1 * float(rng.integers(5))))
            said.regimes.append(RegimeChanged(scenario, (), weights, "the blend moved", until))
        parts = [money(each) for each in rng.normal(0, 20, 3)]
        shares = [*parts, after - before - sum(parts)]
        accounts = [("trend", "BTCUSDT"), ("range", "BTCUSDT"), ("netting", "ETHUSDT"), ("trend", "ETHUSDT")]
        for (name, symbol), net in zip(accounts, shares, strict=True):
            fee, slip, funding = money(0.3), money(0.2), money(-0.1)
            ids = StrategyId(name), InstrumentId(symbol)
            price = net + fee + slip - funding
            said.results.append(StrategyResult(*ids, scenario, since, until, price, fee, funding, slip, Decimal(9), 1))
        held = ((InstrumentId("BTCUSDT"), float(rng.normal(0, 0.2))), (InstrumentId("ETHUSDT"), 0.1))
        shares_of = ((InstrumentId("BTCUSDT"), 0.7), (InstrumentId("ETHUSDT"), 0.3))
        said.risks.append(BookRisk(held, shares_of, 0.08, None, None, 0.01, 0.9, until))
    said.bindings.update({"weight": 1200, "stop_risk": 30})
    said.halts.append(Halt("drawdown of <12 %>", START_NS + 9 * DAY_NS, HaltCause.DRAWDOWN))
    said.resets, said.fits = 1, 17
    first_ns, last_ns, capital = result.equity[0][0], result.equity[-1][0], result.equity[0][1]
    names = [StrategyId(name) for name in STRATEGIES]
    change = result.equity[-1][1] - capital
    result.summary |= {
        "initial_capital_usdt": str(capital),
        "sharpe_ci95": [-0.25, 1.75],
        "costs": {key: result.summary[key] for key in ("fees_usdt", "funding_usdt", "slippage_usdt")},
        "scenario_share": scenario_share(said.regimes, first_ns, last_ns),
        "strategies": strategy_figures(names, said.results, first_ns, last_ns, capital, 10_000.0),
        "other_accounts": other_accounts(names, said.results),
        "attribution_difference_usdt": plain(attribution_difference(said.results, change)),
        "bindings": dict(said.bindings),
        "halts": 1,
        "resets": 1,
        "fits": 17,
    }
    return result


class Page(HTMLParser):
    """The text, the tags with their attributes, and the texts of cells that carry a summary key."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.figures: dict[str, str] = {}
        self.text = ""
        self._key: str | None = None
        self._skipped = False
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._key = dict(attrs).get("data-key")
        self._skipped = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._key = None
        self._skipped = False

    def handle_data(self, data: str) -> None:
        if self._key:
            self.figures[self._key] = data
        if not self._skipped:
            self.text += data


def written(result: BacktestResult, folder: Path) -> str:
    path = folder / "run.html"
    write_report(result, path)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(invented_result(), tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def charts(source: str) -> dict[str, dict]:
    found = re.search(r"^const charts = (.*);$", source, re.MULTILINE)
    assert found
    return json.loads(found.group(1))


def test_nothing_is_loaded_from_elsewhere(source: str, page: Page) -> None:
    loading = {"src", "href", "srcset", "data", "action", "poster"}
    assert [(tag, attrs) for tag, attrs in page.tags if loading & set(attrs)] == []
    assert not {"link", "iframe", "img", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    styles = "".join(re.findall(r"<style>(.*?)</style>", source, re.DOTALL))
    assert "url(" not in styles
    assert "@import" not in styles


def test_the_browser_is_told_to_load_nothing(page: Page) -> None:
    (policy,) = (attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy


def test_the_chart_script_is_there_once(source: str) -> None:
    assert source.count("* plotly.js v") == 1
    assert len(source) < 8_000_000


def test_every_figure_of_the_summary_is_on_the_page(page: Page) -> None:
    summary = invented_result().summary
    digests = {"config_sha256", "data_sha256"}
    assert set(page.figures) == set(summary) - digests
    for key in digests:
        assert str(summary[key]) in page.text


def test_figures_are_shown_in_their_units(page: Page) -> None:
    summary = invented_result().summary
    assert page.figures["fees_usdt"] == "1,200.00"
    assert page.figures["bars"] == "79,200"
    assert page.figures["ledger_difference_usdt"] == "0"
    assert page.figures["turnover"] == "231.46"
    assert page.figures["total_return"] == f"{summary['total_return']:.2%}"
    assert page.figures["sharpe"] == f"{summary['sharpe']:.2f}"


def test_beside_the_sharpe_ratio_stand_what_it_rests_on(page: Page) -> None:
    text = re.sub(r"\s+", " ", page.text)
    beside = text[text.index("What they rest on") : text.index("Activity")]
    for figure in ("Fees USDT", "Slippage USDT", "Funding USDT", "Number of trials1", "Annualisation factor365"):
        assert figure in beside
    assert "A backtest is not a forecast." in text


def test_assumptions_warnings_settings_and_versions_are_listed(page: Page) -> None:
    result = invented_result()
    for line in [*result.assumptions, *result.warnings]:
        assert line in page.text
    assert json.dumps(result.settings, indent=2) in page.text
    assert f"numpy {np.__version__}" in page.text


def test_a_plausible_run_has_no_banner(page: Page) -> None:
    assert not any(attrs.get("id") == "sanity" for _, attrs in page.tags)


def test_an_implausible_run_has_a_banner_and_the_sentence_among_the_warnings(tmp_path: Path) -> None:
    result = invented_result()
    result.summary |= {"sharpe": 7.3, "fees_usdt": "0"}
    source = written(result, tmp_path)
    banner = re.search(r'<section class="card warning" id="sanity".*?</section>', source, re.DOTALL)
    assert banner
    assert banner.group().count("<li>") == 2
    assert source.count("No fees were charged although there were trades.") == 2


def test_the_curve_and_its_drawdown_are_drawn(source: str) -> None:
    result = invented_result()
    equity, drawdown = charts(source)["equity"]["data"]
    assert equity["y"] == [float(value) for _, value in result.equity]
    assert (equity["x"][0], equity["x"][-1]) == ("2021-03-10T00:00:00", "2024-03-14T00:00:00")
    assert min(drawdown["y"]) == pytest.approx(-float(str(result.summary["max_drawdown"])))


def test_the_cost_split_adds_up_to_the_change_of_equity(source: str) -> None:
    result = invented_result()
    (waterfall,) = charts(source)["costs"]["data"]
    *parts, change = waterfall["y"]
    assert waterfall["x"] == ["Price P&L", "Slippage", "Fees", "Funding", "Change of equity"]
    assert sum(parts) == pytest.approx(change)
    assert change == pytest.approx(float(result.equity[-1][1] - result.equity[0][1]))
    assert parts[2] == -1_200.0


@pytest.mark.parametrize("seed", range(5))
def test_every_trade_is_in_the_distribution_and_no_bin_spans_zero(seed: int, tmp_path: Path) -> None:
    result = invented_result(trades=120, seed=seed)
    result.trades += [
        replace(result.trades[0], price_pnl=Decimal(net), slippage=Decimal(0), fees=Decimal(0), funding=Decimal(0))
        for net in ("0", "0.01", "-0.01")
    ]
    (bars,) = charts(written(result, tmp_path))["distribution"]["data"]
    assert sum(bars["y"]) == 123
    losing = sum(trade.net < 0 for trade in result.trades)
    colours = bars["marker"]["color"]
    assert sum(count for count, colour in zip(bars["y"], colours, strict=True) if colour == "var(--loss)") == losing


def test_months_by_years_with_totals(source: str) -> None:
    table = re.search(r'<table class="heat">.*?</table>', source, re.DOTALL)
    assert table
    rows = re.findall(r'<tr><th scope="row">(\d+)</th>(.*?)</tr>', table.group(), re.DOTALL)
    assert [year for year, _ in rows] == ["2021", "2022", "2023", "2024"]
    filled = [len(re.findall(r"--heat", cells)) for _, cells in rows]
    assert filled == [10 + 1, 12 + 1, 12 + 1, 3 + 1]
    assert all(len(re.findall(r"<td", cells)) == 13 for _, cells in rows)


def trade_rows(source: str) -> list[list[str]]:
    section = re.search(r'<section class="card" id="trades">.*?</section>', source, re.DOTALL)
    assert section
    rows = re.findall(r"<tr><td.*?</tr>", section.group(), re.DOTALL)
    return [[unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)] for row in rows]


def test_all_trades_are_listed_up_to_the_limit(source: str) -> None:
    rows = trade_rows(source)
    trades = invented_result().trades
    assert "All 300 trades." in source
    assert [row[0] for row in rows] == [str(i) for i in range(1, 301)]
    assert [row[13] for row in rows] == [f"{trade.net:,.2f}" for trade in trades]


def test_of_many_trades_the_best_and_the_worst_are_listed(tmp_path: Path) -> None:
    result = invented_result(trades=700)
    source = written(result, tmp_path)
    assert "The 250 best and the 250 worst by net result, of 700 trades." in source
    shown = sorted(float(row[13].replace(",", "")) for row in trade_rows(source))
    nets = sorted(float(trade.net) for trade in result.trades)
    assert shown == nets[:250] + nets[-250:]


def test_text_is_escaped_everywhere(tmp_path: Path) -> None:
    evil = "</script><script>alert('x')</script><b a=\"1\">&"
    result = invented_result(trades=3)
    result.trades = [replace(trade, instrument=InstrumentId(evil), exit_reason=evil) for trade in result.trades]
    result.per_symbol = {InstrumentId(evil): {evil: evil, "trades": 3}}
    result.assumptions, result.warnings = [evil], [evil]
    result.settings = {"strategies": [{"name": evil}], "timeframe": evil, evil: evil}
    result.summary |= {evil: evil, "config_sha256": evil}
    source = written(result, tmp_path)
    assert "alert('x')" not in source
    assert "<b a=" not in source
    page = Page(source)
    assert sum(tag == "script" for tag, _ in page.tags) == 2
    assert page.text.count(evil) >= 10


def test_undefined_figures_are_a_dash(tmp_path: Path) -> None:
    result = invented_result(trades=0)
    result.equity = result.equity[:1]
    result.summary |= summarise(result.equity)
    source = written(result, tmp_path)
    page = Page(source)
    assert page.figures["sharpe"] == "–"
    assert "nan" not in page.text.lower().split()
    assert "No trade was closed." in source
    assert "distribution" not in charts(source)


def test_the_same_result_gives_the_same_bytes(source: str, tmp_path: Path) -> None:
    assert written(invented_result(), tmp_path) == source


def test_the_folder_is_made_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "run.html"
    write_report(invented_result(trades=3), path)
    assert [entry.name for entry in path.parent.iterdir()] == ["run.html"]


def test_when_rendering_fails_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    path.write_text("the report of before")
    result = invented_result(trades=3)
    result.equity = []
    with pytest.raises(ValueError, match="equity curve"):
        write_report(result, path)
    assert path.read_text() == "the report of before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.html"]


def test_when_writing_fails_nothing_half_written_is_left(tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    path.mkdir()  # a folder cannot be replaced by a file
    with pytest.raises(OSError):
        write_report(invented_result(trades=3), path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.html"]


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("net_usdt", "-1234567.895", "-1,234,567.90"),
        ("net_usdt", "-0.001", "0.00"),
        ("win_rate", 0.5, "50.00%"),
        ("max_leverage_frac", 0.25, "25.00%"),
        ("orders", 1234567, "1,234,567"),
        ("flag", True, "yes"),
        ("nothing", None, "–"),
        ("bars_per_s", 251_234.56789, "251,235"),
        ("days", 1_703.0, "1,703"),
        ("exposure", 0.123456, "0.1235"),
        ("worst", "n/a", "n/a"),
        ("ledger_difference_usdt", "0.00000001", "0.00000001"),
        ("detail", {"a": 1}, '{"a": 1}'),
        ("sharpe_ci95", [0.123, 1.987], "0.12 to 1.99"),
        ("sharpe_ci95", None, "–"),
        ("delisted", [], "none"),
        ("delisted", ["A", "B"], "A, B"),
        ("attribution_difference_usdt", "0.00000001", "0.00000001"),
    ],
)
def test_how_a_figure_reads(key: str, value: object, text: str) -> None:
    assert report_text.shown(key, value).text == text


@pytest.mark.parametrize(
    ("price", "text"),
    [
        (Decimal(100) / 3, "33.33333"),
        (Decimal("44937.5"), "44,937.50"),
        (Decimal("0.0000123456789"), "0.0000123457"),
    ],
)
def test_an_average_price_is_cut_to_what_can_be_read(price: Decimal, text: str) -> None:
    assert report_text.price(price) == text


def test_labels_are_words() -> None:
    assert report_text.label("final_equity_usdt") == "Final equity USDT"
    assert report_text.label("config_sha256") == "Config SHA-256"
    assert report_text.label("cagr") == "CAGR"


# ---- a book of several strategies ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(invented_book(), tmp_path_factory.mktemp("book"))


def section(source: str, name: str) -> str:
    found = re.search(rf'<section class="card" id="{name}">.*?</section>', source, re.DOTALL)
    assert found, name
    return found.group()


def rows_of(table: str) -> list[list[str]]:
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", table, re.DOTALL)
    return [[unescape(cell) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL)] for row in rows]


def test_a_run_of_one_strategy_has_no_sections_of_a_book(source: str) -> None:
    for name in ("strategies", "risk", "attribution", "active", "bindings", "halts"):
        assert f'id="{name}"' not in source
    assert set(charts(source)) == {"equity", "costs", "distribution"}


def test_every_chart_of_a_book_has_its_place(book: str) -> None:
    drawn = charts(book)
    assert {"strategies", "exposure", "risk", "by-instrument", "by-scenario", "bindings"} <= set(drawn)
    for name in drawn:
        assert book.count(f'id="chart-{name}"') == 1
    assert "NaN" not in json.dumps(drawn)


def test_every_figure_of_a_book_is_on_the_page(book: str) -> None:
    summary, page = invented_book().summary, Page(book)
    sections = {"costs", "scenario_share", "strategies", "other_accounts", "bindings"}
    assert set(page.figures) == set(summary) - sections - {"config_sha256", "data_sha256"}
    assert page.figures["sharpe_ci95"] == "-0.25 to 1.75"
    assert "95 %: -0.25 to 1.75 · 365 days a year, 1 trial" in page.text


def test_the_ribbon_covers_the_whole_curve_in_the_colours_of_its_legend(book: str) -> None:
    *_, ribbon = charts(book)["equity"]["data"]
    assert (ribbon["x"][0], ribbon["x"][-1]) == ("2021-03-10T00:00:00", "2024-03-14T00:00:00")
    assert len(ribbon["x"]) == len(ribbon["z"][0]) + 1 == len(ribbon["text"][0]) + 1
    tints = {tint for _, tint in ribbon["colorscale"]}
    for index, name in zip(ribbon["z"][0], ribbon["text"][0], strict=True):
        tint = f"var(--{name.lower().replace('_', '-')})"
        assert ribbon["colorscale"][2 * index][1] == tint
        assert tint in tints
        assert f"background: {tint}" in book
        assert re.search(rf"{tint[4:-1]}: #", book)


def test_the_strategies_add_up_to_the_book(book: str) -> None:
    result = invented_book()
    header, *rows = rows_of(section(book, "strategies"))
    assert [row[0] for row in rows] == ["trend", "range", "netting", "Book"]
    nets = [float(row[1].replace(",", "")) for row in rows]
    assert sum(nets[:-1]) == pytest.approx(nets[-1], abs=0.02)
    assert nets[-1] == pytest.approx(float(result.equity[-1][1] - result.equity[0][1]))
    assert len({len(row) for row in (header, *rows)}) == 1
    assert rows[-1][header.index("95 % interval")] == "-0.25 to 1.75"
    for name in ("Fees", "Slippage", "Funding"):
        assert name in header
    ends = [trace["y"][-1] for trace in charts(book)["strategies"]["data"][:3]]
    assert ends == pytest.approx(nets[:3], abs=0.02)


def test_the_attribution_sums_to_the_change_of_equity_and_says_so(book: str) -> None:
    result, text = invented_book(), section(book, "attribution")
    change = plain(result.equity[-1][1] - result.equity[0][1])
    assert text.count(f"<code>{change}</code>") == 2
    assert "<code>0</code>" in text
    table = re.search(r'<table class="sortable dense">.*?</table>', text, re.DOTALL)
    assert table
    _, *rows = rows_of(table.group())
    parts = [[float(cell.replace(",", "")) for cell in row[3:8]] for row in rows]
    assert len(parts) == len({tuple(row[:3]) for row in rows}) > 30
    for part in parts:
        assert sum(part[:4]) == pytest.approx(part[4], abs=0.03)
    assert sum(part[4] for part in parts) == pytest.approx(float(change), abs=0.01 * len(parts))


def test_a_line_that_is_lost_is_seen(tmp_path: Path) -> None:
    result = invented_book()
    lost = result.chronicle.results.pop(7)
    net = lost.price_pnl - lost.slippage - lost.fees + lost.funding
    assert f"<code>{plain(-net)}</code>" in section(written(result, tmp_path), "attribution")


def test_the_even_mix_and_what_is_left_over_are_told(book: str) -> None:
    text = section(book, "active")
    assert "each strategy with 50.00% of the risk budget" in text
    residual = re.search(r"return by ([-+.e\d]+)\.", re.sub(r"\s+", " ", text))
    assert residual
    assert abs(float(residual.group(1))) < 1e-12


def test_limits_halts_and_resets_are_told(book: str) -> None:
    (bars,) = charts(book)["bindings"]["data"]
    assert (bars["y"], bars["x"]) == (["weight", "stop risk"], [1200, 30])
    text = section(book, "halts")
    assert "drawdown of &lt;12 %&gt;" in text
    assert "person: 1. Fits of the regime model: 17." in text


def test_a_book_that_traded_nothing_has_a_page(tmp_path: Path) -> None:
    result = invented_book()
    said = result.chronicle
    said.results.clear()
    said.risks.clear()
    said.bindings.clear()
    result.trades = []
    source = written(result, tmp_path)
    assert "No target was set." in source
    assert 'id="attribution"' not in source
