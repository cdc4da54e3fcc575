#!/usr/bin/env bash
# A TimescaleDB server for the tests: scripts/timescale.sh start FOLDER | stop FOLDER     (as root, Debian or its kin)
#
# 1. FOLDER/root becomes a small Debian 13 with PostgreSQL 17 and Debian's own (Apache-licensed) TimescaleDB,
#    from the mirror that this machine's apt uses. It is made under another name and renamed when whole,
#    so a root that was left half made is thrown away and a whole one is used again.
# 2. A fresh cluster is started in it on a free loopback port. No mounts and no accounts are needed outside.
# 3. The server's address is printed on stdout, all else goes to stderr. A second start prints the same address.
#
# The data is thrown away at each start, so the server runs without fsync.
set -euo pipefail

SUITE=trixie
PACKAGES=postgresql-17-timescaledb,postgresql-17
BIN=/usr/lib/postgresql/17/bin
DATA=/var/lib/postgresql/tidegate
LOG=/var/log/postgresql/tidegate.log

say() { echo "timescale.sh: $*" >&2; }
die() { say "$*"; exit 1; }
inside() { chroot --userspec=postgres:postgres "$ROOT" "$@"; }
running() { [ -d "$ROOT$DATA" ] && inside "$BIN/pg_ctl" -D "$DATA" status >&2; }

throw_away() {  # a folder tree, and first what an interrupted debootstrap may have mounted in it
    grep -F " $1/" /proc/self/mounts | cut -d' ' -f2 | sort -r | while read -r mount; do umount -l "$mount"; done || true
    rm -rf --one-file-system "$1"
}

mirror() {  # the first archive that apt knows which is not one of updates
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk '$3 == "main" && $2 !~ /security|updates|backports/ && $1 ~ /^https?:/ { print $1; exit }'
}

make_root() {
    throw_away "$ROOT.draft"
    say "making a Debian $SUITE with TimescaleDB in $ROOT, this once"
    apt-get update -q >&2
    command -v debootstrap >&2 || DEBIAN_FRONTEND=noninteractive apt-get install -qy debootstrap >&2
    local from
    from=$(mirror)
    [ -n "$from" ] || die "apt knows no Debian archive with http: see apt-get indextargets"
    debootstrap --variant=minbase --include="$PACKAGES" "$SUITE" "$ROOT.draft" "$from" >&2 ||
        die "debootstrap failed: see $ROOT.draft/debootstrap/debootstrap.log"
    mv "$ROOT.draft" "$ROOT"
}

start_server() {
    rm -rf "${ROOT:?}$DATA"
    inside "$BIN/initdb" -D "$DATA" -A trust -U postgres -E UTF8 --locale=C.UTF-8 --no-sync >&2
    cat >>"$ROOT$DATA/postgresql.conf" <<-END
	listen_addresses = '127.0.0.1'
	unix_socket_directories = '/tmp'
	shared_preload_libraries = 'timescaledb'
	timescaledb.telemetry_level = off
	dynamic_shared_memory_type = mmap
	max_worker_processes = 40
	timezone = 'UTC'
	fsync = off
	END
    local port
    for _ in 1 2 3; do  # another process may take the port between the look and the start
        port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
        if inside "$BIN/pg_ctl" -D "$DATA" -w -l "$LOG" -o "-p $port" start >&2 </dev/null; then
            echo "postgresql://postgres@127.0.0.1:$port/postgres" >"$URL"
            return
        fi
    done
    cat "$ROOT$LOG" >&2
    die "the server did not start"
}

[ $# -eq 2 ] || { say "usage: start FOLDER | stop FOLDER"; exit 2; }
[ "$(id -u)" = 0 ] || die "chroot and debootstrap need root"
mkdir -p "$2"
ROOT=$(cd "$2" && pwd)/root
URL=$(dirname "$ROOT")/url
exec 9>"$(dirname "$ROOT")/lock"
flock 9
case $1 in
    start)
        [ -d "$ROOT" ] || make_root 9>&-
        running || start_server 9>&-
        cat "$URL"
        ;;
    stop)
        if running; then inside "$BIN/pg_ctl" -D "$DATA" -w -m fast stop >&2; fi
        rm -f "$URL"
        ;;
    *) say "usage: start FOLDER | stop FOLDER"; exit 2 ;;
esac
