"""Where settings come from: a YAML file, the environment, the command line; each a tree of keys, merged in order."""

import os
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource

from tidegate.app.config_errors import short
from tidegate.domain.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Layer:
    """One source of settings: its name for people and its tree of keys, in the shape that layers merge in."""

    name: str
    tree: dict[str, Any]

    def __post_init__(self) -> None:
        # An empty section ("risk:" with every line commented out) is no section; a bare protection is its mode.
        for key in [key for key, value in self.tree.items() if value is None]:
            del self.tree[key]
        if isinstance(self.tree.get("protection"), str):
            self.tree["protection"] = {"mode": self.tree["protection"]}

    def has(self, loc: tuple[int | str, ...]) -> bool:
        """Whether this source has the key at ``loc``."""
        node: Any = self.tree
        for key in loc:
            if isinstance(node, list | tuple) and isinstance(key, int):
                node = node[key]  # lists are never merged, so an index that was refused is in the list
            elif isinstance(node, dict) and key in node:
                node = node[key]
            else:
                return False
        return True


class _EnvironmentSource(EnvSettingsSource):
    """Reads lists and sections as YAML, of which JSON is a part."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:  # noqa: ARG002
        try:
            return yaml.safe_load(value)
        except (yaml.YAMLError, ValueError):
            return value  # refused later, by path and value, like any other wrong value


def environment(variables: type[BaseSettings]) -> dict[str, Any]:
    """What the environment says, for the fields and the prefix that ``variables`` declares."""
    prefix = variables.model_config.get("env_prefix", "").upper()
    tree: dict[str, Any] = _EnvironmentSource(variables)()
    for name, value in os.environ.items():
        section = name.upper().removeprefix(prefix).split("__")[0].lower()
        if name.upper().startswith(prefix) and value and section not in variables.model_fields:
            tree[section] = value  # the reader passes over names it does not know; they are mistakes
    return tree


class _Loader(yaml.SafeLoader):
    """YAML with text keys only, each of them once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys: set[str] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is not text", key_node.start_mark)
            if key in keys:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is twice", key_node.start_mark)
            keys.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys of a YAML file. Raises ``ConfigError`` with file and line."""
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: {error.problem or 'not YAML'}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: holds {short(tree)}; it must be keys with values, like 'timeframe: 1h'")
    return tree


def nested(flat: Mapping[str, object]) -> dict[str, Any]:
    """``{"a.b": 1}`` as ``{"a": {"b": 1}}``."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        branch: Any = value
        for part in reversed(key.split(".")):
            branch = {part: branch}
        tree = merge(tree, branch)
    return tree


def merge(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """``high`` over ``low``, key by key; lists and plain values are replaced whole."""
    merged = dict(low)
    for key, value in high.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged
