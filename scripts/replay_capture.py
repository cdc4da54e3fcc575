"""Replay captured streams: ``python scripts/replay_capture.py FILE [--json] [--damage 50]``.

A capture runs through decoding, translation, the order book and, where its trades make bars, a kernel. A file that goes
on from an earlier one (no snapshot of its own) is replayed after it. With ``--damage N`` one depth message is dropped,
doubled or swapped at N seeded places, one per run, and each break must be noticed and the book rebuilt. Exit code 1
when the untouched capture breaks the book, or a damage is not healed; 2 when the file cannot be read.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tidegate.adapters.binance.capture import CaptureReplay, CaptureReport, damages, with_start
from tidegate.adapters.binance.market_translate import bar_table
from tidegate.adapters.files.instruments import infer_instrument
from tidegate.domain.errors import TidegateError
from tidegate.domain.ids import StrategyId
from tidegate.domain.market import MarketEvent
from tidegate.kernel.feeders import StepFeeder
from tidegate.kernel.kernel import Kernel, KernelSettings
from tidegate.kernel.wishes import StrategySpec
from tidegate.strategies.trend_following import TrendFollowing


def through_kernel(files: list[Path], report: CaptureReport, interval: str) -> dict[str, int]:
    """Hand every event of the capture to a kernel whose strategy watches this contract."""
    first = report.bars[0]
    contract = infer_instrument(first.instrument, [bar_table(first.interval_ns, report.bars)])
    spec = StrategySpec(StrategyId("TrendFollowing"), TrendFollowing(), (contract.id,))
    kernel = Kernel(KernelSettings(first.interval_ns), {contract.id: contract}, (spec,), StepFeeder())
    counts = {"events": 0, "commands": 0}

    def tell(event: MarketEvent) -> None:
        counts["events"] += 1
        counts["commands"] += len(kernel.handle(event))

    CaptureReplay(files, interval, tell).run()
    return counts


def damaged(files: list[Path], depth_messages: int, places: int, seed: int) -> dict[str, int]:
    """One run per damage: how many were noticed, and after how many the book equals the venue's again."""
    counts = {"damaged": 0, "noticed": 0, "rebuilt": 0}
    for damage, place in damages(depth_messages, seed, places):
        report = CaptureReplay(files).run(damage, place)
        counts["damaged"] += 1
        counts["noticed"] += report.gaps > 0
        counts["rebuilt"] += report.rebuilt > 0 and report.book_equals_venue
    return counts


def main() -> int:
    """Replay, print, and say by the exit code whether the book held."""
    parser = argparse.ArgumentParser(prog="replay_capture", description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--interval", default="5m", help="length of the bars that trades make")
    parser.add_argument("--damage", type=int, default=0, metavar="N", help="also damage one depth message, N times")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        files = with_start(options.file)
        report = CaptureReplay(files, options.interval).run()
        found: dict[str, Any] = report.as_dict()
        if report.bars:
            found["kernel"] = through_kernel(files, report, options.interval)
        if options.damage:
            found["damage"] = damaged(files, report.families.get("depthUpdate", 0), options.damage, options.seed)
    except TidegateError as error:
        print(f"replay_capture: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:18} {value}")
    healed = found.get("damage", {"damaged": 0, "rebuilt": 0, "noticed": 0})
    whole = not (report.gaps or report.crossed or report.other_breaks)
    return 0 if whole and healed["damaged"] == healed["rebuilt"] == healed["noticed"] else 1


if __name__ == "__main__":
    sys.exit(main())
