"""Fills a SQLite database of Countersign: fill.py FILE GRANTS REVOCATIONS. The server must not run meanwhile."""

import json
import sqlite3
import sys
import time

file, grants, revocations = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
database = sqlite3.connect(file)
database.execute("PRAGMA synchronous = OFF")
now = int(time.time())
record = json.dumps({
    "username": "somebody", "roles": ["admin", "red:read"], "groups": ["cn=app-red-read,ou=groups,dc=lab,dc=test"] * 4,
    "rules": ["team"], "because_of": ["cn=app-red-read,ou=groups,dc=lab,dc=test"],
    "subject": "00000000-0000-0000-0000-000000000000", "issuer": "", "amr": ["pwd"],
})


def identifier(kind, n):
    return f"{now:08x}{kind}{n:016x}"


with database:
    database.executemany(
        "INSERT INTO grants (id, account_id, client_id, source, scope, record, rv, auth_time, identity_checked_at, created_at,"
        " expires_at) VALUES (?, ?, 'bench', 'corp', 'read write', ?, 0, ?, ?, ?, ?)",
        ((identifier("01", n), identifier("02", n % 50_000), record, now, now, now, now + 86_400) for n in range(grants)),
    )
    (head,) = database.execute("SELECT head FROM feed").fetchone()
    database.executemany(
        "INSERT INTO feed_entries (n, kind, value, until, at) VALUES (?, 'grant_id', ?, ?, ?)",
        ((head + 1 + n, identifier("01", n), now + 86_400, now) for n in range(revocations)),
    )
    database.execute("UPDATE feed SET head = head + ?", (revocations,))
database.close()
