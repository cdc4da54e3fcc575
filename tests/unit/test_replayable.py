"""What would make two runs of one seed differ is banned outside the adapters for it (the rules of replayable runs)."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src/tidegate"

EXEMPT = {
    "adapters/system/": "the adapter for the machine's clock",
    "app/simulation/": "the harness itself: it replaces what is banned",
}
ALLOWED = {
    ("adapters/sim/pace.py", "clock"): "the pace of a demo on the wall: decides when, never what",
    ("adapters/files/journal.py", "thread"): "compresses segments that are left; nothing waits for it but the close",
    ("app/cli.py", "clock"): "names the folder of a run, before it begins",
    ("app/cli_live.py", "clock"): "`status --watch` waits for a second, in a process of its own",
    ("app/demo.py", "clock"): "the display of a demo, and the name of its folder",
    ("app/config_sources.py", "environment"): "settings, read once at the start",
    ("app/observability.py", "environment"): "NO_COLOR, read once at the start",
    ("app/bootstrap_live.py", "environment"): "where the keys may lie, read once at the start",
    ("app/bootstrap_live.py", "randomness"): "the seed of a real process, drawn once; a simulated one is handed in",
    ("app/control.py", "socket"): "the command line's end of the control socket, a process of its own",
    ("adapters/localnet/wire_faults.py", "socket"): "a hard reset of a real socket; one in memory is aborted",
    ("adapters/binance/limits.py", "set order"): "times of which only the least counts",
    ("adapters/database/binaries.py", "environment"): "what the server's programs are started with",
    ("adapters/database/embedded.py", "thread"): "copies files and waits for a server to end: no decision hangs on it",
    ("adapters/database/migrations/env.py", "environment"): "the address for alembic's own command line",
    ("adapters/database/programs.py", "environment"): "what pg_dump and psql are started with",
    ("adapters/database/rows.py", "set order"): "names of columns, of which any wrong one is told",
    (
        "app/bootstrap_database.py",
        "thread",
    ): "backup, restore, export: verbs of the command line, in processes of their own",
    ("app/workers.py", "thread"): "fits in another process: the same bytes come back; a simulated world fits inline",
}
"""(file, ban): why it may. An entry that is no longer needed fails the test."""

MODULES = {
    "clock": {"time"},
    "randomness": {"secrets", "uuid"},
    "thread": {"threading", "_thread", "multiprocessing", "concurrent"},
    "socket": {"socket", "socketserver", "ssl"},
}
HARMLESS = {"time.perf_counter", "time.perf_counter_ns", "time.struct_time", "uuid.UUID", "uuid.uuid5"}
SEEDED = {"random.Random"}
NAMES = {
    "os.urandom": "randomness",
    "os.getrandom": "randomness",
    "os.environ": "environment",
    "os.getenv": "environment",
    "ssl.SSLContext": "socket",
}
METHODS = {"run_in_executor": "thread", "to_thread": "thread", "sock_connect": "socket"}
NOW = {"now", "utcnow", "today"}
SORTERS = {"sorted", "min", "max", "sort"}
SETS = {"set", "frozenset", "all_tasks"}

Finding = tuple[int, str, str]


def findings(tree: ast.Module) -> Iterator[Finding]:
    """Line, ban and what was found, for every sin in ``tree``."""
    names = imported(tree)
    for node in ast.walk(tree):
        for rule in (imports, clock_reads, calls, orders_by_identity):
            yield from rule(node, names)
    members = set(member_sets(tree))
    for scope in scopes(tree):
        inside = list(own_nodes(scope))
        known = members | set(local_sets(inside))
        for node in inside:
            yield from walks_set(node, known)


def scopes(tree: ast.Module) -> Iterator[ast.AST]:
    """The module and every function: what a name means holds for one of them."""
    yield tree
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a scope, but for those of the functions inside."""
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            yield from own_nodes(child)


def imported(tree: ast.Module) -> dict[str, str]:
    """Local name -> full dotted name, for everything imported."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    return names


def dotted(node: ast.AST, names: dict[str, str]) -> str:
    """``a.b.c`` with the first part as it was imported; empty for anything else."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute) and (value := dotted(node.value, names)):
        return f"{value}.{node.attr}"
    return ""


def imports(node: ast.AST, _: dict[str, str]) -> Iterator[Finding]:
    """A name taken straight from a module of accidents, or the module of which only accidents are used."""
    if isinstance(node, ast.ImportFrom) and node.module:
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            if ban := banned(full):
                yield node.lineno, ban, f"imports {full}"
    elif isinstance(node, ast.Import):
        for alias in node.names:
            for ban in ("thread", "socket"):
                if alias.name.split(".")[0] in MODULES[ban]:
                    yield node.lineno, ban, f"imports {alias.name}"
            if alias.name == "secrets":
                yield node.lineno, "randomness", "imports secrets"


def banned(full: str) -> str | None:
    """The ban that a dotted name falls under."""
    if full in HARMLESS | SEEDED:
        return None
    if full in NAMES:
        return NAMES[full]
    module = full.split(".")[0]
    if module == "random" and full != "random":
        return "randomness"
    return next((ban for ban, modules in MODULES.items() if module in modules and full != module), None)


def clock_reads(node: ast.AST, names: dict[str, str]) -> Iterator[Finding]:
    """``datetime.now`` and its kin, under whatever name."""
    if isinstance(node, ast.Attribute) and node.attr in NOW:
        owner = dotted(node.value, names)
        if owner in {"datetime.datetime", "datetime.date", "datetime", "date"}:
            yield node.lineno, "clock", f"reads {owner}.{node.attr}"


def calls(node: ast.AST, names: dict[str, str]) -> Iterator[Finding]:
    """An attribute of a module of accidents, and methods that leave the loop."""
    if not isinstance(node, ast.Attribute):
        return
    if node.attr in METHODS:
        yield node.lineno, METHODS[node.attr], f"uses {node.attr}"
    owner = node.value.id if isinstance(node.value, ast.Name) else ""
    full = dotted(node, names)
    if owner in names and (ban := banned(full)):
        yield node.lineno, ban, f"uses {full}"


def orders_by_identity(node: ast.AST, _: dict[str, str]) -> Iterator[Finding]:
    """An order by ``hash`` or ``id``, which differ from process to process."""
    if not isinstance(node, ast.Call):
        return
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    if name not in SORTERS:
        return
    for keyword in node.keywords:
        if keyword.arg == "key":
            for inner in ast.walk(keyword.value):
                if isinstance(inner, ast.Name) and inner.id in {"hash", "id"}:
                    yield node.lineno, "order", f"orders by {inner.id}()"


def member_sets(tree: ast.Module) -> Iterator[str]:
    """``self.x`` that hold sets, wherever in the file they were made or declared."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield from (f"self.{name}" for name in local_sets(node.body))
    yield from (name for name in local_sets(ast.walk(tree)) if name.startswith("self."))


def local_sets(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """What holds a set, as far as an assignment or annotation says, or holds what ``asyncio.wait`` gave."""
    for node in nodes:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation).split("[")[0] in SETS:
            yield ast.unparse(node.target)
        elif isinstance(node, ast.arg) and node.annotation and ast.unparse(node.annotation).split("[")[0] in SETS:
            yield node.arg
        elif isinstance(node, ast.Assign):
            value = node.value.value if isinstance(node.value, ast.Await) else node.value
            waits = isinstance(value, ast.Call) and ast.unparse(value.func) in {"asyncio.wait", "wait"}
            for target in node.targets:
                if waits and isinstance(target, ast.Tuple):
                    yield from map(ast.unparse, target.elts)
                elif is_set(node.value, set()):
                    yield ast.unparse(target)


def is_set(node: ast.expr, known: set[str]) -> bool:
    """Whether an expression is a set, by its form or by its name."""
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.Call):
        called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        return called in SETS or called in {"union", "intersection", "difference", "symmetric_difference"}
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub | ast.BitXor):
        return is_set(node.left, known) or is_set(node.right, known)
    return isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node) in known


def walks_set(node: ast.AST, known: set[str]) -> Iterator[Finding]:
    """A loop, a comprehension, ``list`` or ``join`` that takes the order of a set for an order."""
    walked: list[ast.expr] = []
    if isinstance(node, ast.For | ast.AsyncFor):
        walked = [node.iter]
    elif isinstance(node, ast.ListComp | ast.DictComp):
        walked = [generator.iter for generator in node.generators]
    elif isinstance(node, ast.Call) and node.args:
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name in {"list", "tuple", "iter", "enumerate", "join", "deque", "extend", "gather"}:
            walked = [arg.value if isinstance(arg, ast.Starred) else arg for arg in node.args]
    for each in walked:
        if is_set(each, known):
            yield node.lineno, "set order", f"walks {ast.unparse(each)}"


PLANTED = {
    "clock": [
        "import time\ntime.time()",
        "import time as t\nt.monotonic_ns()",
        "from time import monotonic",
        "from datetime import datetime, UTC\ndatetime.now(UTC)",
        "import datetime\ndatetime.datetime.utcnow()",
        "from datetime import date\ndate.today()",
    ],
    "randomness": [
        "import random\nrandom.random()",
        "from random import shuffle",
        "import uuid\nuuid.uuid4()",
        "from uuid import uuid4",
        "import os\nos.urandom(8)",
        "import secrets",
    ],
    "thread": [
        "import threading",
        "from concurrent.futures import ThreadPoolExecutor",
        "async def f(loop):\n await loop.run_in_executor(None, f)",
        "import asyncio\nasync def f():\n await asyncio.to_thread(f)",
    ],
    "socket": ["import socket", "from socket import create_connection"],
    "environment": ["import os\nos.environ['A']", "from os import getenv", "from os import environ"],
    "order": ["sorted(tasks, key=id)", "tasks.sort(key=lambda task: hash(task))"],
    "set order": [
        "for name in {'a', 'b'}:\n pass",
        "names: set[str] = f()\nfor name in names:\n pass",
        "import asyncio\nasync def f(t):\n done, pending = await asyncio.wait(t)\n for task in done:\n  pass",
        "import asyncio\nfor task in asyncio.all_tasks():\n task.cancel()",
        "def f(names: frozenset[str]):\n return ','.join(names)",
        "x = [name for name in set(y) | {'z'}]",
        "class C:\n def f(self):\n  self.tasks = set()\n def g(self):\n  for task in self.tasks:\n   pass",
        "class C:\n tasks: set[str]\n def g(self):\n  return list(self.tasks)",
    ],
}
CLEAN = [
    "import random\nrng = random.Random(7)\nrng.random()",
    "from random import Random\ndef f(rng: Random):\n return rng.choice([1])",
    "from time import perf_counter",
    "names = {'a'}\nfor name in sorted(names):\n pass",
    "names: set[str] = f()\nif 'a' in names:\n pass",
    "names = {'a': 1}\nfor name in names:\n pass",
    "def f():\n names = set()\n return names\ndef g(names: list[str]):\n return ','.join(names)",
    "from datetime import datetime, UTC\ndatetime.fromtimestamp(0, UTC)",
]


@pytest.mark.parametrize(("ban", "code"), [(ban, code) for ban, codes in PLANTED.items() for code in codes])
def test_every_ban_bites(ban: str, code: str) -> None:
    assert ban in {found for _, found, _ in findings(ast.parse(code))}


@pytest.mark.parametrize("code", CLEAN)
def test_what_is_fair_passes(code: str) -> None:
    assert list(findings(ast.parse(code))) == []


def files() -> dict[str, Path]:
    """The files that the bans hold for, by their path in the package."""
    names = {path.relative_to(SOURCE).as_posix(): path for path in sorted(SOURCE.rglob("*.py"))}
    return {name: path for name, path in names.items() if not name.startswith(tuple(EXEMPT))}


def test_nothing_in_the_daemon_differs_from_run_to_run() -> None:
    sins, used = [], set()
    for name, path in files().items():
        for line, ban, what in sorted(set(findings(ast.parse(path.read_text(encoding="utf-8"))))):
            if (name, ban) in ALLOWED:
                used.add((name, ban))
            else:
                sins.append(f"{name}:{line}: {what} ({ban})")
    assert sins == []
    assert set(ALLOWED) - used == set(), "no longer needed"


def test_the_exemptions_exist() -> None:
    assert [name for name in EXEMPT if not (SOURCE / name).is_dir()] == []
