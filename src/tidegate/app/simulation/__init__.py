"""The harness in which the whole daemon and the local exchange run in one process on virtual time, from one seed.

``run`` is the door; ``VirtualLoop`` gives nodes, kills and effect boundaries; ``Network`` and ``faults`` the wires;
``SimDisk`` and ``SimJournal`` a disk that loses what was not synced; ``VirtualClock`` the time.
"""

from tidegate.app.simulation.clock import EPOCH_NS, VirtualClock
from tidegate.app.simulation.disk import SimDisk, SimJournal
from tidegate.app.simulation.loop import Deadlock, Livelock, Overtime, VirtualLoop
from tidegate.app.simulation.net import Fault, Flow, Network, Piece, Rule, Signal
from tidegate.app.simulation.nodes import Killed, Node
from tidegate.app.simulation.randomness import pinned
from tidegate.app.simulation.runner import Outcome, run

__all__ = [
    "EPOCH_NS",
    "Deadlock",
    "Fault",
    "Flow",
    "Killed",
    "Livelock",
    "Network",
    "Node",
    "Outcome",
    "Overtime",
    "Piece",
    "Rule",
    "Signal",
    "SimDisk",
    "SimJournal",
    "VirtualClock",
    "VirtualLoop",
    "pinned",
    "run",
]
