"""The house rules that no import contract can say. Each is shown to bite on a planted sin, then asked of the source."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src/tidegate"
CORE = ("domain", "quant", "strategies", "portfolio", "risk", "execution", "simulator", "kernel")

WORLDLY_MODULES = {"asyncio", "logging", "os", "random", "secrets", "tempfile", "threading", "time", "uuid"}
WORLDLY_CALLS = {"breakpoint", "hash", "input", "open", "print"}  # hash: of text, it differs from run to run
SEEDED = {"Generator", "PCG64"}
CLOCKS = {"now", "today", "utcnow"}
SENDABLE = {"ApprovedOrder", "AmendOrder"}
MODES = {"backtest", "demo", "live", "paper", "testnet"}
MODE_NAME = re.compile(r"_?(is|if|in)_(backtest(ing)?|demo|live|paper|testnet)(_mode)?|_?dry_run|_?run_?mode")
MAY_KNOW_MODES = {
    "app/access.py": "the interlocks: what each mode may reach, and with which key",
    "app/bootstrap.py": "the composition root: a kernel before a real venue reconciles with it",
    "app/bootstrap_live.py": "the composition root of the live path: paper has no key, and a venue of its own",
    "app/checkup.py": "the doctor has no account to look at in paper",
    "app/config_live.py": "the addresses that each mode has by default",
    "app/reconciling.py": "refuses paper, whose account is its daemon's own",
}
UNBUILT_PORTS = {"Notifier"}  # a port nobody implements yet; it leaves this set with its first adapter
DUMPS = {"common", "core", "helper", "helpers", "misc", "util", "utils"}
HEAVY = {"hmmlearn", "numba", "pandas", "plotly", "pyarrow", "scipy", "sklearn"}

Rule = Callable[[ast.AST], str | None]


def worldly(node: ast.AST) -> str | None:
    """A clock, a disk, a random number, or talk."""
    match node:
        case ast.Import(names=names) if found := {name.name.split(".")[0] for name in names} & WORLDLY_MODULES:
            return f"imports {', '.join(sorted(found))}"
        case ast.ImportFrom(module=str(module)) if module.split(".")[0] in WORLDLY_MODULES:
            return f"imports from {module}"
        case ast.Call(func=ast.Name(id=name)) if name in WORLDLY_CALLS:
            return f"calls {name}()"
        case ast.Attribute(value=ast.Name(id="datetime" | "date") | ast.Attribute(attr="datetime" | "date"), attr=name):
            if name in CLOCKS:
                return f"reads the clock: {name}"
        case ast.Attribute(value=ast.Attribute(attr="random"), attr=name) if name not in SEEDED:
            return f"draws without a seed of ours: random.{name}"
        case ast.ImportFrom(module="numpy.random", names=names) if unseeded := {name.name for name in names} - SEEDED:
            return f"draws without a seed of ours: {', '.join(sorted(unseeded))}"
        case ast.Call(func=ast.Name(id="PCG64") | ast.Attribute(attr="PCG64"), args=[], keywords=[]):
            return "draws without a seed of ours: PCG64()"
    return None


def makes_sendable(node: ast.AST) -> str | None:
    """An order that a venue would take."""
    match node:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in SENDABLE:
            return f"constructs {name}"
        case ast.alias(name=name, asname=str()) if name in SENDABLE:
            return f"hides {name} behind another name"
    return None


def knows_mode(node: ast.AST) -> str | None:
    """A branch on how the program is being run."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
            if MODE_NAME.fullmatch(name):
                return f"asks {name}"
        case ast.FunctionDef(name=name) if MODE_NAME.fullmatch(name):
            return f"asks {name}"
        case ast.Compare(left=left, comparators=others):
            if found := [mode for side in (left, *others) for mode in modes_in(side)]:
                return f"compares with {found[0]}"
        case ast.MatchValue(value=value) if found := modes_in(value):
            return f"matches {found[0]}"
    return None


def modes_in(side: ast.expr) -> list[str]:
    """The run modes that one side of a comparison names: as text, as members of an enum, or in a collection."""
    match side:
        case ast.Constant(value=str(text)) if text.lower() in MODES:
            return [text]
        case ast.Attribute(attr=name) if name.lower() in MODES and name.isupper():
            return [name]
        case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts):
            return [mode for part in parts for mode in modes_in(part)]
    return []


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Every module: its path below the package, and its tree."""
    for path in sorted(SOURCE.rglob("*.py")):
        yield path.relative_to(SOURCE).as_posix(), ast.parse(path.read_text())


def sins(rule: Rule, modules: Iterator[tuple[str, ast.Module]]) -> list[str]:
    return [
        f"{name}:{getattr(node, 'lineno', 0)} {sin}"
        for name, tree in modules
        for node in ast.walk(tree)
        if (sin := rule(node))
    ]


@pytest.mark.parametrize(
    ("rule", "planted"),
    [
        (worldly, "import time"),
        (worldly, "def f():\n    import random as r"),
        (worldly, "from os import urandom"),
        (worldly, "from uuid import uuid4"),
        (worldly, "import secrets"),
        (worldly, "x = datetime.now(UTC)"),
        (worldly, "x = datetime.datetime.utcnow()"),
        (worldly, "x = date.today()"),
        (worldly, "print('here')"),
        (worldly, "open('file')"),
        (worldly, "key = hash(name)"),
        (worldly, "x = np.random.normal()"),
        (worldly, "g = np.random.default_rng()"),
        (worldly, "from numpy.random import default_rng, Generator"),
        (worldly, "g = np.random.Generator(np.random.PCG64())"),
        (makes_sendable, "ApprovedOrder(id=x)"),
        (makes_sendable, "orders.AmendOrder(x)"),
        (makes_sendable, "from tidegate.domain.orders import ApprovedOrder as Order"),
        (knows_mode, "if self.is_live: pass"),
        (knows_mode, "def f(dry_run): pass"),
        (knows_mode, "def is_backtest(): pass"),
        (knows_mode, "f(is_paper=True)"),
        (knows_mode, "if settings.mode == 'live': pass"),
        (knows_mode, "if mode in (Mode.PAPER, Mode.LIVE): pass"),
        (knows_mode, "match mode:\n    case 'backtest': pass"),
    ],
)
def test_a_planted_sin_is_caught(rule: Rule, planted: str) -> None:
    assert len(sins(rule, iter([("planted", ast.parse(planted))]))) == 1


@pytest.mark.parametrize(
    "innocent",
    [
        "gap = self.fast.now - self.slow.now",
        "g = np.random.Generator(np.random.PCG64(seed))",
        "def f(random: Generator) -> float: return random.standard_normal()",
        "fills = self.exchange.open(bar)",
        "order.side == 'BUY'",
        "status is TradingStatus.TRADING",
        "def f(order: ApprovedOrder) -> ApprovedOrder: return order",
    ],
)
def test_the_rules_leave_honest_code_alone(innocent: str) -> None:
    for rule in (worldly, makes_sendable, knows_mode):
        assert sins(rule, iter([("innocent", ast.parse(innocent))])) == []


def test_the_core_reads_no_clock_no_disk_and_no_dice() -> None:
    assert sins(worldly, (module for module in sources() if module[0].split("/")[0] in CORE)) == []


def test_only_the_gate_makes_an_order_sendable() -> None:
    assert sins(makes_sendable, (module for module in sources() if module[0] != "risk/gate.py")) == []


def test_no_branch_on_the_mode_below_the_composition_root() -> None:
    assert sins(knows_mode, (module for module in sources() if module[0] not in MAY_KNOW_MODES)) == []


@pytest.mark.parametrize("name", MAY_KNOW_MODES)
def test_whoever_may_know_the_mode_needs_to(name: str) -> None:
    assert sins(knows_mode, (module for module in sources() if module[0] == name)) != []


def test_no_room_without_a_name() -> None:
    parts = {part for name, _ in sources() for part in name.removesuffix(".py").split("/")}
    assert parts & DUMPS == set()


def methods(cls: ast.ClassDef) -> set[tuple[str, ...]]:
    """Each public method as its name and the names of its parameters."""
    return {
        (item.name, *(arg.arg for arg in item.args.args + item.args.kwonlyargs))
        for item in cls.body
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and not item.name.startswith("_")
    }


def implementations() -> dict[str, list[str]]:
    """The classes of the package that have every method of a port, by port."""
    modules = dict(sources())
    ports = {
        node.name: methods(node)
        for node in modules.pop("ports.py").body
        if isinstance(node, ast.ClassDef) and any(getattr(base, "id", "") == "Protocol" for base in node.bases)
    }
    found: dict[str, list[str]] = {port: [] for port in ports}
    for tree in modules.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                for port, wanted in ports.items():
                    if wanted <= methods(node):
                        found[port].append(node.name)
    return found


def test_every_port_is_implemented_or_known_to_be_unbuilt() -> None:
    assert {port for port, classes in implementations().items() if not classes} == UNBUILT_PORTS


def test_every_implementation_of_a_port_stands_in_its_contract_suite() -> None:
    missing = []
    for port, classes in implementations().items():
        suite = ROOT / "tests/contracts" / ("test" + re.sub("([A-Z])", r"_\1", port).lower() + ".py")
        if port.endswith("Repository"):
            suite = suite.with_name("test_repositories.py")  # they share their databases
        text = suite.read_text() if suite.is_file() else ""
        missing += [f"{name} in {suite.name}" for name in classes if name not in text]
    assert missing == []


def test_asking_for_help_loads_nothing_heavy() -> None:
    asked = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tidegate", "--help"],
        env={**os.environ, "PYTHONPATH": str(SOURCE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr.splitlines()[-1]
    assert "demo" in asked.stdout
    loaded = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in asked.stderr.splitlines()}
    assert "tidegate" in loaded
    assert loaded & HEAVY == set()


MACHINE_PATH = re.compile(r"(?<![\w.~*$}])/(?:work|root|home|Users)/\w")
REGISTRY = re.compile(r"pypi\.(?:org|python)|pythonhosted\.org|index[-_]url|[/]simple[/]|registry\.\w+\.\w")


@pytest.mark.parametrize(
    "planted", ["see /" + "root/notes", "'/" + "home/me/x'", "--extra-index" + "-url", "pypi" + ".org"]
)
def test_a_planted_address_is_caught(planted: str) -> None:
    assert MACHINE_PATH.search(planted) or REGISTRY.search(planted)


def test_no_file_names_a_machine_or_a_registry() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout: there is no list of the repository's files")
    found = [
        f"{name}:{number} {line.strip()[:80]}"
        for name in listed.stdout.splitlines()
        if (ROOT / name).is_file()
        for number, line in enumerate((ROOT / name).read_text(errors="replace").splitlines(), 1)
        if MACHINE_PATH.search(line) or REGISTRY.search(line)
    ]
    assert found == []
