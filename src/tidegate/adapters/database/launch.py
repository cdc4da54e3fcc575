"""Becomes a program of PostgreSQL that cannot outlive its starter. Run as a script, standard library only.

A small process of its own, for three reasons: uvloop's children cannot change their account; code between fork and
exec may deadlock in a process with threads; and Linux forgets the death signal when the account changes, so it must
be asked for afterwards.

Arguments: user id and group id (-1: stay who we are), the starter's process id, a log file ("": keep the output),
then the program and its arguments. The death signal comes when the *thread* that started this process ends.
"""

import ctypes  # before the account changes: it may not reach this Python
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LOG_LIMIT_BYTES = 4 << 20


def become(uid: int, gid: int) -> None:
    """Give up root for good: the other groups first, the user last."""
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def die_with(parent: int) -> None:
    """SIGINT, which is PostgreSQL's fast shutdown, when the starter is gone, even by ``kill -9``. Linux only."""
    if sys.platform != "linux":
        return
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it died before we had asked
        sys.exit(1)


def write_to(log: str) -> None:
    """Our output goes to the end of this file, which is begun again when it has grown large."""
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    if os.fstat(fd).st_size > _LOG_LIMIT_BYTES:
        os.ftruncate(fd, 0)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)


def main(uid: str, gid: str, parent: str, log: str, *argv: str) -> None:
    try:
        os.umask(0o077)
        if int(uid) >= 0:
            become(int(uid), int(gid))
        die_with(int(parent))
        if log:
            write_to(log)
        os.execv(argv[0], argv)
    except OSError as error:
        sys.exit(f"FATAL: {argv[0]}: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
