"""Scenario files: a list of faults in JSON or YAML."""

from pathlib import Path

import msgspec

from tidegate.adapters.localnet.fault_rules import Fault, fault_of
from tidegate.domain.errors import ConfigError

_SUFFIXES = (".json", ".yaml", ".yml")


def load_scenario(path: Path) -> tuple[Fault, ...]:
    """The faults of a file, in its order. Raises ``ConfigError``: one line that names the file and the entry."""
    if path.suffix.lower() not in _SUFFIXES:
        raise ConfigError(f"{path}: a scenario is a file of {', '.join(_SUFFIXES)}")
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    return parse_scenario(text, str(path))


def parse_scenario(text: bytes, name: str) -> tuple[Fault, ...]:
    """The faults of a text, JSON or YAML (of which JSON is a part). Raises ``ConfigError`` that begins with ``name``.

    The text is a list of faults, or a mapping whose only key ``faults`` holds one.
    """
    try:
        raw = msgspec.json.decode(text) if text.lstrip()[:1] in (b"[", b"{") else msgspec.yaml.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: not readable: {' '.join(str(error).split())}") from None
    if isinstance(raw, dict) and set(raw) == {"faults"}:
        raw = raw["faults"]
    if not isinstance(raw, list):
        raise ConfigError(f"{name}: a scenario is a list of faults, or a mapping with the one key faults")
    return tuple(fault_of(_unquoted(each), f"{name}: fault {number}") for number, each in enumerate(raw, 1))


def _unquoted(raw: object) -> object:
    """YAML reads a bare ``on`` as true: the key that is meant is put back."""
    return {"on" if key is True else key: value for key, value in raw.items()} if isinstance(raw, dict) else raw
