"""A destination is down while agents report spans, and Tollgate is killed again and again: every span
arrives, in order, and what comes twice is no more than a batch for each kill."""

import http.server
import json
import os
import socket
import threading
import time
from collections import Counter

from sidecar import DEADLINE, HERE, Mock, Tollgate, request, wait_for

#: How many spans are reported. The nightly run asks for a million.
SPANS = int(os.environ.get("TOLLGATE_SPANS", "20000"))
#: Spans of one report.
REPORT = 500
#: Spans of one message, as in `outage.yaml`.
BATCH = 500
#: Spans that are reported in a second, so that a kill comes amid them.
PACE = 4000
#: Seconds until a span that was reported is on disk. Tollgate looks every 100 ms; the rest is for a
#: crowded machine.
SETTLING = 1


class Sink:
    """The destination: it counts how often each span comes."""

    def __init__(self):
        # Nobody listens there, and nobody else can meanwhile.
        self.held = socket.socket()
        self.held.bind(("127.0.0.1", 0))
        self.address = "%s:%d" % self.held.getsockname()
        self.url = f"http://{self.address}/spans"
        self.came = Counter()  # in the order in which they came first
        self.server = None

    def open(self):
        """Begins to answer."""
        came = self.came

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                came.update(int(span["span_id"], 16) for span in json.loads(body)["spans"])
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        host, port = self.held.getsockname()
        self.held.close()
        self.server = http.server.ThreadingHTTPServer((host, port), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        if self.server:
            self.server.shutdown()
            self.server.server_close()


class Agent(threading.Thread):
    """Reports spans until all are reported, or nobody answers."""

    def __init__(self, tollgate, firsts, answered):
        super().__init__()
        self.url, self.firsts, self.answered = f"{tollgate.url}/v1/traces", firsts, answered
        self.start()

    def run(self):
        due = time.monotonic()
        while (first := next(self.firsts, None)) is not None:
            status = 503
            while status == 503:  # too many at once: later
                status, _, body = request(self.url, report(first))
            if status == 0:
                return
            assert (status, json.loads(body)) == (200, {}), (status, body)
            self.answered[first] = time.monotonic()
            due += REPORT / PACE
            time.sleep(max(0, due - time.monotonic()))


def report(first):
    """So many spans, in the form of OpenTelemetry, numbered from `first`."""
    now = time.time_ns()
    spans = [
        {
            "traceId": f"{first + 1:032x}",
            "spanId": f"{number:016x}",
            "name": f"step {number}",
            "kind": 1,
            "startTimeUnixNano": str(now),
            "endTimeUnixNano": str(now + 1_000_000),
        }
        for number in range(first + 1, first + 1 + REPORT)
    ]
    return {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {}, "spans": spans}]}]}


def test_an_outage_and_kills_lose_nothing(tmp_path):
    sink, answered, owed = Sink(), {}, set()
    patience = DEADLINE + SPANS / 500

    def start():
        return Tollgate(tmp_path, mock, HERE / "outage.yaml", {"SINK": sink.url})

    def kill(tollgate, agent):
        """Kills it; what was reported just before may not have been on disk yet."""
        tollgate.kill()
        moment = time.monotonic() - SETTLING
        agent.join(DEADLINE)
        for first, at in answered.items():
            if at < moment:
                owed.update(range(first + 1, first + 1 + REPORT))
        answered.clear()

    with Mock(tmp_path) as mock:
        try:
            firsts = iter(range(0, SPANS, REPORT))
            for part in (1, 2):
                with start() as tollgate:
                    agent = Agent(tollgate, firsts, answered)
                    part_of_it = SPANS / REPORT / 3
                    wait_for("a third", lambda: len(answered) > part_of_it, patience)
                    kill(tollgate, agent)
            with start() as tollgate:
                agent = Agent(tollgate, firsts, answered)
                agent.join(patience)
                time.sleep(SETTLING)  # not a wait: what comes later is not owed after a kill
                sink.open()
                wait_for("half of them", lambda: len(sink.came) > len(owed) / 2, patience)
                kill(tollgate, agent)
            with start() as tollgate:
                wait_for("all of them", lambda: owed <= sink.came.keys(), patience)
                dropped = 'tollgate_spans_total{outcome="dropped",processor="webhook"} 0'
                assert dropped in request(f"{tollgate.admin}/metrics")[2].decode()
                assert tollgate.end() == 0
        finally:
            sink.close()
    again = sum(sink.came.values()) - len(sink.came)
    print(f"{SPANS} reported, {len(owed)} owed, {len(sink.came)} came, {again} twice")
    assert len(owed) > SPANS / 3
    assert again <= 3 * BATCH
    assert list(sink.came) == sorted(sink.came), "in the order in which they were reported"
