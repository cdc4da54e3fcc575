"""``tidegate db`` as a person runs it, on real servers: every verb, every refusal, and no password anywhere."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.contracts.test_migrations import dump, fill, run
from tests.databases import _wait_for as wait_for
from tests.e2e.test_canary import leaks
from tests.fakes.command_line import Outcome, assert_refused, process, tidegate
from tidegate.adapters.database.connecting import libpq_url
from tidegate.adapters.database.embedded import EmbeddedServer, find_binaries
from tidegate.app.bootstrap_database import open_database
from tidegate.app.config import load_settings
from tidegate.app.config_database import DatabaseSettings, DatabaseUrl
from tidegate.domain.errors import ConfigError

URL = "TIDEGATE__DATABASE__URL"
CANARY = "canary/p@ss w%rd+4f1d9c"
Use = Callable[[str], None]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Say which database the commands are about."""
    return lambda url: monkeypatch.setenv(URL, libpq_url(url))


def answer(*arguments: object) -> Any:
    outcome = tidegate("db", *arguments, "--json")
    assert (outcome.code, outcome.err) == (0, ""), outcome
    return json.loads(outcome.out)


def test_status_before_and_after(database: str, use: Use) -> None:
    use(database)
    told = answer("status")
    assert (told["tier"], told["revision"], told["head"], told["tables"]) == (None, None, "0004", [])
    assert answer("migrate") == {"before": None, "after": "0004"}
    assert answer("migrate") == {"before": "0004", "after": "0004"}
    told = answer("status")
    assert told["tier"] in ("plain", "apache")
    assert told["revision"] == "0004"
    assert told["timescale_tier_tested"] == "not run"
    assert told["size_bytes"] > 1_000_000
    assert told["server_version"].startswith(("17.", "18."))
    assert len(told["tables"]) == 17
    assert told["enums"] == ["order_state", "order_type", "position_side", "scenario", "side", "time_in_force"]
    assert {"ix_fills_time", "pk_market_data"} <= {*told["indexes"]}
    for names in ("tables", "enums", "indexes", "views"):
        assert told[names] == sorted(told[names])
    assert answer("downgrade", "0002") == {"before": "0004", "after": "0002"}
    for_people = tidegate("db", "status")
    assert for_people.code == 0
    assert "0002" in for_people.out
    assert "tidegate db migrate" in for_people.err


def test_a_backup_comes_back_row_by_row(database: str, use: Use, tmp_path: Path) -> None:
    use(database)
    answer("migrate")
    before = wait_for(fill(database, 3, 0))
    schema = wait_for(dump(database))
    file = tmp_path / "all.dump"
    told = answer("backup", file)
    assert told == {"file": str(file), "size_bytes": file.stat().st_size}
    assert [*tmp_path.iterdir()] == [file]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    assert_refused(tidegate("db", "restore", file), "is not empty (17 tables); --force empties it first")
    wait_for(run(database, "delete from fills", "update wallets set wallet = 0"))
    assert answer("restore", file, "--force")["revision"] == "0004"
    assert wait_for(dump(database)) == schema
    assert wait_for(fill(database, 0, 0)) == before

    answer("downgrade", "base")
    assert answer("restore", file)["revision"] == "0004"
    assert wait_for(fill(database, 0, 0)) == before
    assert answer("migrate") == {"before": "0004", "after": "0004"}
    assert answer("downgrade", "base")["after"] == "base"


def test_a_backup_with_hypertables_needs_a_server_that_has_them(
    plain_database: str, timescale_database: str, use: Use, tmp_path: Path
) -> None:
    use(timescale_database)
    answer("migrate")
    file = tmp_path / "all.dump"
    answer("backup", file)
    use(plain_database)
    answer("migrate")
    kept = wait_for(dump(plain_database))
    assert_refused(tidegate("db", "restore", file, "--force"), "the backup needs TimescaleDB", code=1)
    assert wait_for(dump(plain_database)) == kept


def test_a_damaged_backup_is_refused_before_anything_is_dropped(plain_database: str, use: Use, tmp_path: Path) -> None:
    use(plain_database)
    answer("migrate")
    wait_for(fill(plain_database, 90, 0))
    file = tmp_path / "all.dump"
    answer("backup", file)
    kept = wait_for(fill(plain_database, 0, 0))
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) * 3 // 4], whole[:40], b"no backup at all"):
        file.write_bytes(damaged)
        assert_refused(tidegate("db", "restore", file, "--force"), "is not a whole backup")
    assert wait_for(fill(plain_database, 0, 0)) == kept


def test_refusals(plain_database: str, use: Use, tmp_path: Path) -> None:
    use(plain_database)
    assert_refused(tidegate("db", "backup", tmp_path / "x"), "no schema", "nothing to back up")
    assert_refused(tidegate("db", "restore", tmp_path / "x"), "no such file")
    assert_refused(tidegate("db", "downgrade", "0077"), "'0077' is not a revision")
    answer("migrate")
    assert_refused(tidegate("db", "backup", tmp_path / "none" / "x"), "cannot be written")
    assert [*tmp_path.iterdir()] == []
    wait_for(run(plain_database, "update alembic_version set version_num = '9999'"))
    assert_refused(tidegate("db", "migrate"), "revision 9999", "does not know")


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("postgresql://u:{}@127.0.0.1:1/name", 3, "does not answer"),
        ("postgresql://u:{}@no-such-host.invalid/name", 3, "does not answer"),
        ("mysql://u:{}@127.0.0.1/name", 2, "postgresql://user@host/name"),
        ("postgresql://u:{}@127.0.0.1:port/name", 2, "postgresql://user@host/name"),
        ("memory", 2, "there is no database"),
    ],
)
def test_a_server_that_is_none(monkeypatch: pytest.MonkeyPatch, url: str, code: int, said: str) -> None:
    monkeypatch.setenv(URL, url.format(quote(CANARY, safe="")))
    for verb in ("status", "migrate"):
        outcome = tidegate("db", verb)
        assert_refused(outcome, said, code=code)
        assert not leaks(outcome.err, {CANARY})


def test_a_database_that_does_not_exist(plain_database: str, use: Use) -> None:
    use(plain_database.replace("/test_", "/other_"))
    assert_refused(tidegate("db", "status"), "does not exist")


def test_a_password_in_a_file_is_refused_without_repeating_it(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("database: {url: 'postgresql://u:canary-in-a-file@127.0.0.1/name'}\n")
    outcome = tidegate("db", "status", "--config", config)
    assert_refused(outcome, "database.url holds a password", "PGPASSWORD", str(config))
    assert "canary" not in outcome.err


# ---- the password is in no sink -------------------------------------------------------------------------------------

RECORDER = """#!/bin/sh
{{ printf '%s\\n' "$0" "$@"; }} >> {argv}
printf '%s' "$PGPASSWORD" > {password}
exec {real}/$(basename "$0") "$@"
"""


def recording_programs(folder: Path, real: Path) -> Path:
    """Programs that note their arguments and the password that they were given, and then do their work."""
    programs = folder / "bin"
    programs.mkdir()
    for name in ("pg_dump", "pg_restore", "psql", "postgres", "initdb"):
        script = programs / name
        script.write_text(RECORDER.format(argv=folder / "argv", password=folder / "password", real=real))
        script.chmod(0o755)
    return programs


def test_the_password_reaches_the_programs_by_the_environment_and_nothing_else(
    plain_database: str, tmp_path: Path
) -> None:
    bare = libpq_url(plain_database)
    url = bare.replace("tidegate@", f"tidegate:{quote(CANARY, safe='')}@", 1)
    programs = recording_programs(tmp_path, find_binaries())
    environment = {URL: url, "TIDEGATE__DATABASE__PG_BIN": str(programs)}
    said = []

    def command(*arguments: object) -> Outcome:
        outcome = process("db", *arguments, **environment)
        assert outcome.code == 0, outcome
        said.append(outcome.out + outcome.err)
        return outcome

    file = tmp_path / "all.dump"
    command("migrate")
    command("status")
    command("backup", file)
    command("restore", file, "--force")
    assert (tmp_path / "password").read_text() == CANARY
    said += [(tmp_path / "argv").read_text(), file.read_bytes().decode(errors="replace")]
    assert "pg_dump" in said[-2]
    assert not leaks("\n".join(said), {CANARY})
    assert leaks("\n".join([*said, url]), {CANARY}), "a planted leak must be found"


def test_settings_show_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL, "postgresql://u:c%40nary@h:5/name?password=other&host=/tmp/x")
    settings = load_settings(None, {"symbols": "BTCUSDT", "strategies": ["TrendFollowing"]})
    url = settings.database.url
    assert url == "postgresql://u@h:5/name?host=/tmp/x"
    assert url.revealed() == "postgresql://u:c%40nary@h:5/name?host=/tmp/x"
    shown = f"{settings!r} {settings.as_dict()} {settings.model_dump_json()} {url.password!r} {url.__reduce__()}"
    assert not leaks(shown, {"c@nary", "other"})
    again = settings.model_validate(settings.as_dict()).database.url
    assert (again, again.password) == (url, None)
    assert DatabaseUrl("postgresql://h/name?password=x%25").revealed() == "postgresql://:x%25@h/name"


async def test_what_fails_inside_shows_no_password(plain_database: str) -> None:
    url = DatabaseUrl(libpq_url(plain_database).replace("tidegate@", "tidegate:canary@", 1))
    settings = DatabaseSettings(url=url, tier="plain")
    async with open_database(settings, migrate=True) as database:
        shown = f"{database!r} {database.engine!r} {database.engine.url!r} {database.note} {database.place!r}"
        assert "canary" not in shown
        async with database.connect() as connection:
            assert await connection.fetchval("select current_setting('timezone')") == "UTC"


# ---- opening --------------------------------------------------------------------------------------------------------


async def test_a_configured_database_is_only_checked(plain_database: str) -> None:
    settings = DatabaseSettings(url=DatabaseUrl(libpq_url(plain_database)))
    with pytest.raises(ConfigError, match=r"no schema yet.*tidegate db migrate"):
        async with open_database(settings):
            pass
    assert await dump(plain_database) == ""
    async with open_database(settings, migrate=True) as database:
        assert (database.tier, database.embedded) == ("plain", False)
    async with open_database(settings) as database, database.engine.connect() as connection:
        told = await connection.exec_driver_sql("show statement_timeout")
        assert told.scalar_one() == "1min"


async def test_an_embedded_database_is_made_migrated_and_stopped(own_folder: Path) -> None:
    settings = DatabaseSettings(dir=str(own_folder / "pg"))
    async with open_database(settings) as database:
        assert (database.tier, database.embedded) == ("plain", True)
        assert "no compression" in database.note
        server = database.place.server
        assert isinstance(server, EmbeddedServer)
        assert server.owner
    assert not server.owner


def test_psql_runs_on_what_comes_from_a_pipe(plain_database: str) -> None:
    environment = {**os.environ, URL: libpq_url(plain_database), "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    done = subprocess.run(
        [sys.executable, "-m", "tidegate", "db", "shell"],
        input="select 6 * 7 as answer;",
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "42" in done.stdout


@pytest.fixture
def own_folder() -> Iterator[Path]:
    """A folder with a short path that another account can pass through."""
    folder = Path(tempfile.mkdtemp(prefix="tidegate-db-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)
