"""The settings of the database: where it is, and the one place that lets no password out of an address."""

from typing import Annotated, Any, Literal, NoReturn
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from pydantic import Field, PlainValidator, WithJsonSchema

from tidegate.app.config_errors import sentence
from tidegate.app.config_fields import Section, Whole
from tidegate.domain.errors import ConfigError
from tidegate.domain.secret import Secret

EMBEDDED, MEMORY = "embedded", "memory"
_SCHEMES = ("postgresql", "postgres")
_NEED = "database.url must be embedded, memory or an address like postgresql://user@host/name"


class DatabaseUrl(str):
    """``embedded``, ``memory`` or ``postgresql://user@host/name``. The text holds no password: ``password`` does.

    Printed, logged, compared, serialised or pickled it is the address without its password.
    """

    __slots__ = ("password",)
    password: Secret | None

    def __new__(cls, text: str, password: Secret | None = None) -> "DatabaseUrl":
        """Raises ``ValueError`` with a sentence that does not repeat the text."""
        if isinstance(text, DatabaseUrl):
            return text
        bare, found = _split(text.strip())
        self = super().__new__(cls, bare)
        self.password = password or found
        return self

    def revealed(self) -> str:
        """The address with its password, for the driver alone; the same address where it has none."""
        if self.password is None:
            return str(self)
        scheme, _, rest = self.partition("://")
        user, at, place = rest.partition("@")
        return f"{scheme}://{user if at else ''}:{quote(self.password.reveal(), safe='')}@{place if at else rest}"

    def __reduce__(self) -> Any:
        return DatabaseUrl, (str(self),)

    def __copy__(self) -> "DatabaseUrl":
        return self

    def __deepcopy__(self, memo: Any) -> "DatabaseUrl":
        return self


def _split(text: str) -> tuple[str, Secret | None]:
    """The address without its password, and the password."""
    if text in (EMBEDDED, MEMORY):
        return text, None
    try:
        parts = urlsplit(text)
        password = parts.password
        parts.port  # noqa: B018  raises when it is no number
    except ValueError:
        _refuse()
    if parts.scheme not in _SCHEMES or not text.startswith(f"{parts.scheme}://") or parts.fragment:
        _refuse()
    query = parse_qsl(parts.query, keep_blank_values=True)
    given = [value for key, value in query if key == "password"]
    kept = urlencode([each for each in query if each[0] != "password"], safe="/")
    user, at, place = parts.netloc.rpartition("@")
    bare = f"{parts.scheme}://{user.partition(':')[0]}{at}{place}{parts.path}" + (f"?{kept}" if kept else "")
    hidden = unquote(password) if password else given[0] if given else ""
    return bare, Secret(hidden) if hidden else None


def _refuse() -> NoReturn:
    raise ValueError(_NEED) from None


def _url(value: object) -> DatabaseUrl:
    if not isinstance(value, str):
        raise sentence(_NEED, "database")
    try:
        return DatabaseUrl(value)
    except ValueError as error:
        raise sentence(str(error), "database") from None


class KeepSettings(Section):
    """How long things are kept, and how much of the disk that may take. Null keeps all of it.

    A journal, ledger and tape, is removed whole ``journal_days`` after it was last written to. Only ``market_data`` and
    ``risk_metrics`` are ever dropped from the database, whole months (or chunks) at a time, by the time of their rows:
    imported bars are bars, and invented markets have times of their own. What is kept for ever is planned for
    ``plan_days``. The ``..._mib_per_day`` are what the
    start reckons with: it is refused when the disk cannot hold the days, with ``reserve_mib`` to spare.
    """

    journal_days: Whole | None = Field(default=30, ge=1, le=36_500)
    market_data_days: Whole | None = Field(default=None, ge=1, le=36_500)
    risk_metrics_days: Whole | None = Field(default=None, ge=1, le=36_500)
    plan_days: Whole = Field(default=30, ge=1, le=36_500)
    journal_mib_per_day: Whole = Field(default=16, ge=0, le=10**6)
    tape_mib_per_day: Whole = Field(default=64, ge=0, le=10**6)
    database_mib_per_day: Whole = Field(default=16, ge=0, le=10**6)
    reserve_mib: Whole = Field(default=256, ge=0, le=10**6)


class DatabaseSettings(Section):
    """The database. ``embedded`` is a server of our own, ``memory`` is none, an address is somebody else's PostgreSQL.

    ``tier: plain`` keeps to plain tables on a server that has TimescaleDB. ``dir`` is the folder of the embedded
    database, ``pg_bin`` the folder of the PostgreSQL programs; null finds both. ``keep``: how long things are kept.
    """

    url: Annotated[DatabaseUrl, PlainValidator(_url), WithJsonSchema({"type": "string"})] = DatabaseUrl(EMBEDDED)
    tier: Literal["auto", "plain"] = "auto"
    dir: str | None = None
    pg_bin: str | None = None
    keep: KeepSettings = KeepSettings()


def screen_password(tree: dict[str, Any], source: str, *, allowed: bool) -> None:
    """Take the password out of a source's ``database.url`` before anything can print it.

    Raises ``ConfigError`` where one stands in a source that must not hold any: only the environment may.
    """
    section = tree.get("database")
    if not isinstance(section, dict) or not isinstance(section.get("url"), str):
        return
    try:
        url = DatabaseUrl(section["url"])
    except ValueError:
        section["url"] = "(not shown)"
        return
    if url.password is not None and not allowed:
        raise ConfigError(
            f"{source}: database.url holds a password; give it by the environment (TIDEGATE__DATABASE__URL or "
            "PGPASSWORD) or by a PGPASSFILE"
        )
    section["url"] = url
