"""Keys from the two places they may lie in: files that only their owner can read, and the environment."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tidegate.domain.errors import ConfigError
from tidegate.domain.secret import Secret

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Environment(dict[str, str]):
    """Environment variables that are not shown: keys may be among them, and a traceback with locals prints them."""

    def __repr__(self) -> str:
        return f"Environment({len(self)} variables)"


class Credentials(NamedTuple):
    """A key and what signs for it. The key is no secret by itself, but it is not shown either."""

    api_key: Secret
    secret: Secret


def read_secret(path: Path) -> Secret:
    """The content of a file that nobody but its owner can read. Raises ``ConfigError``."""
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"{path}: the secret cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: holds no text") from None
    if os.name != "nt" and mode & _OTHERS:
        raise ConfigError(f"{path}: others can read it (mode {stat.S_IMODE(mode):04o}); run chmod 600 on it")
    if not text:
        raise ConfigError(f"{path}: is empty")
    return Secret(text)


def read_credentials(
    prefix: str, key_file: str | None, secret_file: str | None, environment: Mapping[str, str]
) -> Credentials | None:
    """The key and its secret: each from its file if named, else from the environment: ``prefix`` with ``_KEY``,
    and ``_SECRET`` or ``_PRIVATE_KEY_FILE``. None when there is neither. Raises ``ConfigError`` for one of the two.
    """
    key = read_secret(Path(key_file)) if key_file else Secret(environment.get(f"{prefix}_KEY", ""))
    if secret_file:
        secret = read_secret(Path(secret_file))
    elif place := environment.get(f"{prefix}_PRIVATE_KEY_FILE"):
        secret = read_secret(Path(place))
    else:
        secret = Secret(environment.get(f"{prefix}_SECRET", ""))
    if not key and not secret:
        return None
    if not key or not secret:
        missing, name = ("key", "KEY") if not key else ("secret", "SECRET")
        raise ConfigError(f"the {missing} is missing: set {prefix}_{name}, or keys.{missing}_file")
    return Credentials(key, secret)
