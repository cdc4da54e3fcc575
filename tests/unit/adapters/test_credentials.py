"""Keys from files and the environment, and the lock of one daemon per key."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tidegate.adapters.system.credentials import read_credentials
from tidegate.adapters.system.lock import ProcessLock
from tidegate.domain.errors import AlreadyRunning, ConfigError
from tidegate.domain.secret import Secret

CANARY = "c4n4ry-s3cr3t"


def written(path: Path, mode: int) -> str:
    path.write_text(CANARY + "\n")
    path.chmod(mode)
    return str(path)


def test_environment_and_files(tmp_path: Path) -> None:
    found = read_credentials("T", None, None, {"T_KEY": "k", "T_SECRET": CANARY})
    assert found is not None
    assert (found.api_key.reveal(), found.secret.reveal()) == ("k", CANARY)
    path = written(tmp_path / "secret", 0o600)
    for place in (
        {"secret_file": path, "environment": {"T_KEY": "k"}},
        {"secret_file": None, "environment": {"T_KEY": "k", "T_PRIVATE_KEY_FILE": path}},
    ):
        assert read_credentials("T", None, **place).secret.reveal() == CANARY  # type: ignore[union-attr, arg-type]
    assert read_credentials("T", None, None, {}) is None


def test_half_a_key_and_open_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the secret is missing: set T_SECRET"):
        read_credentials("T", None, None, {"T_KEY": "k"})
    with pytest.raises(ConfigError, match="the key is missing: set T_KEY"):
        read_credentials("T", None, None, {"T_SECRET": CANARY})
    for mode in (0o644, 0o640, 0o604):
        with pytest.raises(ConfigError, match="chmod 600") as error:
            read_credentials("T", None, written(tmp_path / "open", mode), {"T_KEY": "k"})
        assert CANARY not in str(error.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_credentials("T", str(tmp_path / "none"), None, {})


def test_a_secret_shows_nothing() -> None:
    secret = Secret(CANARY)
    assert not any(CANARY in text for text in (repr(secret), str(secret), f"{secret:>20}", repr({"key": secret})))
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        msgspec.json.encode(secret)


def test_one_daemon_per_key_even_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "fingerprint.lock"
    with ProcessLock(path), pytest.raises(AlreadyRunning, match=f"process {os.getpid()} holds"):
        ProcessLock(path)
    ProcessLock(path).release()
    imports = "from pathlib import Path; from tidegate.adapters.system.lock import ProcessLock"
    code = f"{imports}; lock = ProcessLock(Path({str(path)!r})); print('held', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(AlreadyRunning, match=f"process {holder.pid} holds"):
            ProcessLock(path)
        holder.kill()
        holder.wait()
    ProcessLock(path).release()
