"""Clients of other makers, unmodified, take localnet for the venue. The runner is that of ``scripts/run.py``."""

import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.conformance import runner
from tests.conformance.environments import MissingPackages
from tests.conformance.runner import CAPABILITIES, CLIENTS, FAIL, NOT_RUN, PASS, Client, Report, run, table

pytestmark = pytest.mark.timeout(900)  # the first run makes the environments


@pytest.fixture(scope="module")
def reports() -> dict[str, Report]:
    return {report.client: report for report in run()}


@pytest.mark.parametrize("client", [client.name for client in CLIENTS])
def test_client_can_do_all_it_offers(client: str, reports: dict[str, Report]) -> None:
    report = reports[client]
    if missing := report.having(NOT_RUN):
        pytest.skip(f"NOT RUN {client}: {report.details[missing[0]]}")
    assert not report.having(FAIL), table([report])
    assert report.having(PASS)
    assert report.version in (Path(runner.HERE) / _folder(client) / "requirements.txt").read_text()


def _folder(name: str) -> str:
    return next(client.folder for client in CLIENTS if client.name == name)


def test_every_capability_is_covered_by_every_maker() -> None:
    by_folder: dict[str, set[str]] = {}
    for client in CLIENTS:
        by_folder.setdefault(client.folder, set()).update(set(CAPABILITIES) - set(client.elsewhere))
    assert all(covered == set(CAPABILITIES) for covered in by_folder.values())


def judged(folder: Path, *lines: str) -> Report:
    """What the runner makes of a script of these lines, which it runs without localnet."""
    (folder / "client.py").write_text("\n".join(["from checks import *", *lines]))
    report = Report("some")
    for capability in CAPABILITIES:
        report.put(capability, NOT_RUN)
    ending = runner._script(Client("some", str(folder)), sys.executable, "http://127.0.0.1:1", report)
    report.details["ending"] = ending
    return report


def test_the_records_of_a_script_are_read_and_nothing_else(tmp_path: Path) -> None:
    report = judged(
        tmp_path,
        "print('chatter'), print([1]), print(7), print('{}')",
        "checks = {'markets': lambda: 4, 'account': lambda: {}['USDT'], 'batch': lambda: expect(False, 'no')}",
        "asyncio.run(run_checks('pytest', checks))",
    )
    assert report.version == version("pytest")
    assert (report.having(PASS), report.having(FAIL)) == (["markets"], ["account", "batch"])
    assert "FAIL some, account: KeyError 'USDT'" in table([report])
    assert "FAIL some, batch: Disagreement no" in table([report])


def test_a_script_that_falls_over_says_why(tmp_path: Path) -> None:
    report = judged(tmp_path, "raise SystemExit('no such thing')")
    assert report.having(NOT_RUN) == list(CAPABILITIES)
    assert report.details["ending"] == "exit 1, no such thing"


def test_packages_that_are_missing_are_not_run_and_never_passed() -> None:
    report = runner._run(Client("some", "ccxt", elsewhere=("batch",)), MissingPackages("its packages are far away"))
    assert report.having(PASS) == report.having(FAIL) == []
    assert set(report.having(NOT_RUN)) == set(CAPABILITIES) - {"batch"}
    assert "NOT RUN some: its packages are far away" in table([report])
