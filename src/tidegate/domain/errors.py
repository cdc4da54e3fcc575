"""The error tree. Refusals are values, failures are exceptions, a broken invariant is a crash."""


class TidegateError(Exception):
    """Base of everything that tidegate raises on purpose."""


class ConfigError(TidegateError):
    """The configuration is wrong; raised at start only."""


class DataError(TidegateError):
    """Market data cannot be used as it is."""


class OutOfOrder(DataError):
    """Data came twice or in the wrong order."""


class InvalidBar(DataError):
    """A bar contradicts itself: not finite, not positive, high below low, off its grid."""


class AlreadyRunning(ConfigError):
    """Two daemons on one account are a refused start."""


class NotRunning(TidegateError):
    """There is no daemon to talk to."""


class Interrupted(TidegateError):
    """A second signal: the process leaves without waiting for the venue."""


class JournalError(TidegateError):
    """A journal is damaged, incomplete or of another format."""


class DatabaseError(TidegateError):
    """The database cannot be reached, or would not do as asked."""


class ProjectionMoved(DatabaseError):
    """Another projector wrote the same session in between; nothing of this batch is stored."""


class ModelError(TidegateError):
    """A model could not be fitted."""


class VenueError(TidegateError):
    """The venue could not or would not do as asked."""


class VenueUnavailable(VenueError):
    """The venue did not answer; the adapter retries what may be retried."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OrderNotSent(VenueError):
    """It is certain that no byte of the request left, or that it was too old to be signed."""


class OrderRefused(VenueError):
    """The venue said no to a request. ``cause`` is the name of a ``RejectCause``."""

    def __init__(self, code: str, reason: str, cause: str = "RULES") -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason
        self.cause = cause


class OrderOutcomeUnknown(VenueError):
    """Nobody knows yet whether the request reached the venue; the kernel asks, it never sends again.

    After ``fence_ns`` of the venue's time it cannot be accepted any more; 0 where there is no such time.
    """

    def __init__(self, client_order_id: str, detail: str = "", fence_ns: int = 0) -> None:
        super().__init__(f"{client_order_id} {detail}".strip())
        self.client_order_id = client_order_id
        self.detail = detail
        self.fence_ns = fence_ns


class NotAuthorised(VenueError):
    """Key, address or permission are refused; trading halts."""


class InvariantBroken(TidegateError):
    """A promise of the house does not hold; the process stops rather than trade on."""
