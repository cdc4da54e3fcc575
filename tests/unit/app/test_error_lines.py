"""What the verbs of the live path say to bad input: one line with what, where and the nearest right thing."""

import socket
from pathlib import Path

import pytest

from tests.fakes.command_line import Outcome, tidegate

LOCAL = "mode: testnet\nsymbols: [BTCUSDT]\nstrategies: [{class: TrendFollowing}]\n"


@pytest.fixture(autouse=True)
def homeless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_STATE_HOME", "XDG_DATA_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in ("KEY", "SECRET", "TESTNET_KEY", "TESTNET_SECRET", "TESTNET_PRIVATE_KEY_FILE"):
        monkeypatch.delenv(f"TIDEGATE_BINANCE_{name}", raising=False)


def config(folder: Path, more: str = "") -> Path:
    path = folder / "local.yaml"
    path.write_text(LOCAL + more)
    return path


def says(outcome: Outcome, code: int, *words: str) -> None:
    assert outcome.code == code, outcome
    (line,) = outcome.err.strip().splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line


@pytest.mark.parametrize("verb", [("run",), ("doctor",), ("reconcile",), ("account", "setup")])
def test_a_mode_that_is_missing_or_unknown(verb: tuple[str, ...]) -> None:
    says(tidegate(*verb), 2, "no mode", "testnet")
    says(tidegate(*verb, "--mode", "real"), 2, "'real'", "paper, testnet, live")


@pytest.mark.parametrize("verb", [("run",), ("reconcile",), ("account", "setup")])
def test_a_venue_that_does_not_answer_is_named(tmp_path: Path, verb: tuple[str, ...]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        says(tidegate(*verb, "--config", config(tmp_path, f'venue: {{rest: "{address}"}}\n')), 1, address)


def test_a_key_that_is_missing_or_lies_open(tmp_path: Path) -> None:
    says(tidegate("run", "--config", config(tmp_path)), 2, "TIDEGATE_BINANCE_TESTNET_KEY", "keys.key_file")
    named = config(tmp_path, f"keys: {{key_file: {tmp_path / 'key'}, secret_file: {tmp_path / 'secret'}}}\n")
    says(tidegate("run", "--config", named), 2, "key", "No such file")
    for name in ("key", "secret"):
        (tmp_path / name).write_text("canary")
        (tmp_path / name).chmod(0o644)
    outcome = tidegate("run", "--config", named)
    says(outcome, 2, "others can read it", "chmod 600")
    assert "canary" not in outcome.err


@pytest.mark.parametrize("verb", [("reconcile",), ("account", "setup")])
def test_a_paper_account_is_nowhere(verb: tuple[str, ...]) -> None:
    says(tidegate(*verb, "--mode", "paper"), 2, "paper account")


@pytest.mark.parametrize(
    ("mode", "rest", "words"),
    [
        ("testnet", "https://fapi.binance.com", ("venue.rest", "live exchange")),
        ("testnet", "http://example.com", ("plain http", "https")),
        ("live", "http://127.0.0.1:8800", ("not encrypted", "https")),
        ("live", "https://example.com", ("live.hosts", "fapi.binance.com")),
    ],
)
def test_hosts_that_do_not_fit_the_mode(tmp_path: Path, mode: str, rest: str, words: tuple[str, ...]) -> None:
    path = config(tmp_path, f'venue: {{rest: "{rest}"}}\nlive: {{confirm: demo}}\n')
    says(tidegate("run", "--config", path, "--mode", mode), 2, *words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--market", "replay"), ("--data",)),
        (("--market", "real"), ("synthetic or replay",)),
        (("--symbols", "FOOUSDT"), ("FOOUSDT", "BTCUSDT")),
        (("--timeframe", "7m"), ("7m", "5m")),
        (("--faults", "nowhere.yaml"), ("nowhere.yaml", "No such file")),
    ],
)
def test_a_local_exchange_that_cannot_be(options: tuple[str, ...], words: tuple[str, ...]) -> None:
    says(tidegate("localnet", "--port", "0", *options), 2, *words)


def test_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        says(tidegate("localnet", "--port", port), 2, f"port {port}", "--port")


@pytest.mark.parametrize("verb", ["status", "pause", "resume", "flatten", "kill", "stop"])
def test_a_word_to_nobody(tmp_path: Path, verb: str) -> None:
    says(tidegate(verb, "--state", tmp_path / "nowhere"), 3, "no daemon", "nowhere")
