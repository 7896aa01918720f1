#!/usr/bin/env python3
"""A resource server that keeps answers of introspection and still honours a revocation within a second.

It answers GET requests that carry a bearer token. What a token means it asks Countersign once, and then keeps the answer for as long
as `cache_for` says, but only while it follows the revocations: a thread reads them from /oauth2/revocations as server-sent events,
and forgets what they kill. When the stream is lost, or silent for too long, nothing is kept and every request asks.

Standard library alone. The client needs `revocations = true` and `introspect`; settings come from the environment:

    COUNTERSIGN     https://auth.example.org        where tokens are introspected and revocations followed
    CLIENT_ID, CLIENT_SECRET                        of this resource server
    LISTEN_PORT     8000                            0 takes a free one and prints it
    FEED            default: COUNTERSIGN            where revocations are followed, if by another way
"""

import base64
import hashlib
import http.server
import json
import os
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

COUNTERSIGN = os.environ["COUNTERSIGN"].rstrip("/")
FEED = os.environ.get("FEED", COUNTERSIGN).rstrip("/")
SILENCE = 3.0  # Countersign says something every second: who hears nothing for so long has lost the stream.
MOST_ANSWERS = 100_000

# RFC 6749 section 2.3.1: id and secret are form-encoded before they are put together.
_pair = ":".join(urllib.parse.quote_plus(os.environ[name]) for name in ("CLIENT_ID", "CLIENT_SECRET"))
BASIC = "Basic " + base64.b64encode(_pair.encode()).decode()

# Which member of an answer is matched by which kind of revocation.
KINDS = {"jti": "jti", "grant_id": "grant_id", "sub": "sub", "client_id": "client_id", "source": "source", "sid": "sid"}


def digest(kind, value):
    """How the feed names a value: base64url(SHA-256(kind, 0x00, value))."""
    raw = hashlib.sha256(kind.encode() + b"\0" + value.encode()).digest()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Answers:
    """The kept answers. Nothing is kept unless the revocations are followed."""

    def __init__(self):
        self.lock = threading.Lock()
        self.following = False
        self.epoch = 0  # Grows with every loss, so that what was asked before it is not kept after it.
        self.revoked = {}  # (kind, h) -> (n, until)
        self.kept = {}  # SHA-256 of a token -> (answer, when it ends)

    def look(self, token):
        """A kept answer, or None; and the epoch in which the caller may go and ask."""
        key = hashlib.sha256(token.encode()).digest()
        with self.lock:
            answer, ends = self.kept.get(key, (None, 0))
            if not self.following or time.monotonic() >= ends or (answer["active"] and self.killed(answer)):
                self.kept.pop(key, None)
                answer = None
            return answer, self.epoch

    def keep(self, token, answer, epoch):
        """Keeps an answer that was asked for in `epoch`. A revocation that came since then is known, and kills it all the same."""
        seconds = answer.get("cache_for", 0)
        with self.lock:
            if self.following and self.epoch == epoch and seconds > 0:
                if len(self.kept) >= MOST_ANSWERS:
                    self.kept.clear()
                self.kept[hashlib.sha256(token.encode()).digest()] = (answer, time.monotonic() + seconds)

    def killed(self, answer):
        """A revocation kills what is older than itself: what carries a smaller `rv` than its own number."""
        names = [(kind, answer[member]) for kind, member in KINDS.items() if answer.get(member)] + [("all", "")]
        marks = (self.revoked.get((kind, digest(kind, value))) for kind, value in names)
        return any(mark is not None and mark[0] > answer["rv"] for mark in marks)

    def take_in(self, news):
        now = time.time()
        with self.lock:
            for entry in news["entries"]:
                name = (entry["kind"], entry["h"])
                n, until = self.revoked.get(name, (0, 0))
                self.revoked[name] = (max(n, entry["n"]), max(until, entry["until"]))
            if len(self.revoked) > 2 * getattr(self, "after_purge", 1000):
                self.revoked = {name: mark for name, mark in self.revoked.items() if mark[1] >= now}
                self.after_purge = max(1000, len(self.revoked))
            if not news["more"]:
                self.following = True  # Everything that was there has been taken in.

    def lose(self):
        with self.lock:
            self.following = False
            self.epoch += 1
            self.kept.clear()


ANSWERS = Answers()


def follow():
    """Reads the stream for ever; comes again with the last cursor when it is lost, and without one when that has become useless."""
    cursor = None
    while True:
        try:
            headers = {"Accept": "text/event-stream", "Authorization": BASIC}
            if cursor:
                headers["Last-Event-ID"] = cursor
            request = urllib.request.Request(FEED + "/oauth2/revocations", headers=headers)
            with urllib.request.urlopen(request, timeout=SILENCE) as stream:
                for line in stream:  # A silence raises TimeoutError.
                    if line.startswith(b"data: "):
                        news = json.loads(line[len(b"data: ") :])
                        ANSWERS.take_in(news)
                        cursor = news["cursor"]
        except urllib.error.HTTPError as error:
            if error.code == 410:  # Another feed: what was known of the old one says nothing any more.
                cursor = None
                ANSWERS.revoked = {}
        except (OSError, ValueError) as error:
            print("lost the revocations:", error, flush=True)
        ANSWERS.lose()
        time.sleep(1)


def introspect(token):
    """What the token means, and whether that was asked now. Raises OSError when it cannot be known."""
    answer, epoch = ANSWERS.look(token)
    if answer is not None:
        return answer, False
    form = urllib.parse.urlencode({"token": token}).encode()
    request = urllib.request.Request(COUNTERSIGN + "/oauth2/introspect", data=form, headers={"Authorization": BASIC})
    with urllib.request.urlopen(request, timeout=5) as response:
        answer = json.load(response)
    if answer["active"]:
        ANSWERS.keep(token, answer, epoch)
    return answer, True


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return self.answer(401, {"error": "a bearer token is needed"})
        try:
            meaning, asked = introspect(token)
        except OSError:
            return self.answer(503, {"error": "what the token means cannot be known now"})
        if not meaning["active"]:
            return self.answer(401, {"error": "invalid_token"})
        self.answer(200, {"hello": meaning["sub"], "asked": asked, "following": ANSWERS.following})

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    threading.Thread(target=follow, daemon=True).start()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("LISTEN_PORT", "8000"))), Handler)
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
