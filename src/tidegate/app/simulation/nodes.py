"""Who runs: every callback of a simulated run belongs to a node, and a node can be killed as ``kill -9`` does it."""

from asyncio import Event, Task
from collections.abc import AsyncGenerator, Callable
from contextvars import ContextVar
from weakref import WeakSet


class Killed(BaseException):
    """The node that runs this code is dead: nothing that it does reaches the world any more."""


class Node:
    """One life of one simulated process. ``effects`` counts its effect boundaries; a restart is another ``Node``.

    ``ends`` are called when it is killed, to close what only the operating system would close.
    """

    def __init__(self, name: str, life: int = 1) -> None:
        self.name, self.life = name, life
        self.dead = False
        self.effects = 0
        self.kill_at: int | None = None
        self.died = Event()
        self.tasks: WeakSet[Task[object]] = WeakSet()
        self.generators: WeakSet[AsyncGenerator[object, object]] = WeakSet()
        self.signals: dict[int, Callable[[], object]] = {}
        self.ends: list[Callable[[Node], object]] = []

    def __repr__(self) -> str:
        return f"Node({self.name!r}, life={self.life}, {'dead' if self.dead else 'alive'}, effects={self.effects})"


WORLD = Node("world")
"""Whoever is no node of its own: the test, and a venue that never dies."""

NODE: ContextVar[Node] = ContextVar("tidegate_simulated_node", default=WORLD)
"""The running node; every task and callback inherits it from whoever made it."""


class Nodes:
    """The nodes of one run by name: their lives, their planned deaths and what their dead leave behind."""

    def __init__(self, kill: Callable[[Node], None]) -> None:
        self.graveyard: list[object] = []
        self.any_dead = False
        self._kill = kill
        self._current: dict[str, Node] = {}
        self._planned: dict[tuple[str, int], int] = {}

    def begin(self, name: str) -> Node:
        """The living node of this name; a new life when there is none."""
        node = self._current.get(name)
        if node is None or node.dead:
            node = self._current[name] = Node(name, 1 if node is None else node.life + 1)
            node.kill_at = self._planned.get((name, node.life))
        return node

    def get(self, name: str) -> Node:
        """The last life of this name. Raises ``LookupError``."""
        if name not in self._current:
            raise LookupError(f"no node {name!r} has run; there are: {', '.join(sorted(self._current)) or 'none'}")
        return self._current[name]

    def plan_kill(self, name: str, effect: int, life: int) -> None:
        """Kill the ``life``-th node of this name at its ``effect``-th boundary, counted from 1."""
        self._planned[name, life] = effect
        if (node := self._current.get(name)) is not None and node.life == life:
            node.kill_at = effect

    def point(self, label: str) -> None:
        """An effect boundary of the running node. Raises ``Killed`` when it is dead, or dies here."""
        node = NODE.get()
        if node.dead:
            raise Killed(f"{node.name}: dead at {label}")
        node.effects += 1
        if node.effects == node.kill_at:
            self._kill(node)
            raise Killed(f"{node.name}: killed at boundary {node.effects}, {label}")
