"""Tollgate is killed under load, again and again: no restart may forget money that was spent, or
invent more than was reserved for calls in flight."""

import http.client
import json
import os
import random
import subprocess
import threading
import time
from decimal import Decimal

from sidecar import DEADLINE, ENVIRONMENT, HERE, PROGRAM, Mock, Tollgate, free_address, wait_for

#: How often it is killed. The nightly run asks for more.
KILLS = int(os.environ.get("TOLLGATE_KILLS", "30"))
CLIENTS = 8
#: Seconds that a settlement may take to reach the disk. The journal writes them in batches within
#: 10 ms; the rest is for a crowded machine. A call that ended less than this before a kill counts as
#: in flight.
SETTLING = 0.1

MILLION = Decimal(1_000_000)
INPUT, OUTPUT = Decimal("2.50") / MILLION, Decimal("10.00") / MILLION
#: What a call costs at most, and unless it breaks off: the mock reports 30 tokens in and 40 out.
BILL = 30 * INPUT + 40 * OUTPUT
CALL = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Say something."}]}


class Kind:
    """A sort of call: what it sends, and the most it may reserve. (A token is a byte or more.)"""

    def __init__(self, output, **more):
        self.body = json.dumps(CALL | more)
        self.reservation = len(self.body) * INPUT + output * OUTPUT


#: One with a limit of its own, and one that takes its output in steps.
KINDS = [Kind(100, max_tokens=100), Kind(1000, stream=True)]


class Load:
    """Clients that call as fast as they are answered, until they are not, or are refused."""

    def __init__(self, tollgate):
        self.tollgate = tollgate
        self.ended = []  # when each call ended, whether well or not, and its reservation
        self.failed = 0  # calls that Tollgate did not answer
        self.refused = 0
        self.threads = [threading.Thread(target=self.client, args=[n]) for n in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def client(self, number):
        headers = {
            "content-type": "application/json",
            "x-tollgate-agent": f"agent-{number % 3}",
            "x-mock-input": "30",
            "x-mock-output": "40",
            "x-mock-delay": "5ms",
        }
        kind = KINDS[number % 2]
        address = self.tollgate.url.removeprefix("http://")
        connection = http.client.HTTPConnection(address, timeout=DEADLINE)
        while True:
            try:
                connection.request("POST", "/v1/chat/completions", kind.body, headers)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                self.failed += 1
                return
            finally:
                self.ended.append((time.monotonic(), kind.reservation))
            if answer.status != 200:
                self.refused += 1
                assert answer.status == 429, answer.status
                return

    def wait(self):
        """Waits until the clients are done."""
        for thread in self.threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()

    def reserved(self, moment):
        """The most that calls may have held that were not settled at that moment."""
        return sum(held for ended, held in self.ended if ended > moment - SETTLING)


def test_money_survives_kills(tmp_path):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    with Mock(tmp_path) as mock:
        reserved = Decimal(0)
        for _ in range(KILLS):
            with start(tmp_path, mock, "1000") as tollgate:
                check(tollgate, mock, reserved)
                load = Load(tollgate)
                time.sleep(moments.uniform(0.1, 0.6))  # the moment of the crash, not a wait
                tollgate.kill()
                moment = time.monotonic()
                load.wait()
                reserved += load.reserved(moment)
                assert load.failed, "it was killed under load"
        with start(tmp_path, mock, "1000") as tollgate:
            spent = check(tollgate, mock, reserved)
        limit = spent + 10 * KINDS[1].reservation
        with start(tmp_path, mock, str(limit)) as tollgate:
            load = Load(tollgate)
            load.wait()
            assert load.refused == CLIENTS, "every client got to the limit"
            assert check(tollgate, mock, reserved) <= limit
        verify(tmp_path, mock)


def start(directory, mock, limit):
    return Tollgate(directory, mock, HERE / "kill.yaml", {"LIMIT": limit})


def really_spent(mock):
    """What the provider bills: every request that reached it whole."""
    return mock.count() * BILL


def check(tollgate, mock, reserved):
    """Compares the books with the provider's, and gives what they say was spent."""
    counters = wait_for("nothing is reserved", lambda: settled(tollgate))
    spent = sum(Decimal(c["spent"]) for c in counters if c["name"] == "all")
    by_agent = sum(Decimal(c["spent"]) for c in counters if c["name"] == "each")
    real = really_spent(mock)
    assert real <= spent <= real + reserved, (real, spent, reserved)
    assert spent == by_agent, "a call counts for all of its rules or for none"
    wait_for("the store tells the same", lambda: stored(tollgate) == spent)
    return spent


def settled(tollgate):
    """Its counters, once no call holds any."""
    counters = tollgate.api("budgets")
    return all(Decimal(counter["reserved"]) == 0 for counter in counters) and counters


def stored(tollgate):
    """What the spans of all calls sum up to."""
    groups = tollgate.api("report?since=1h&by=agent")
    return sum(Decimal(group["cost_usd"]) for group in groups)


def verify(directory, mock):
    """The books prove their own totals."""
    subprocess.run(
        [PROGRAM, "ledger", "verify", "-c", str(HERE / "kill.yaml")],
        env=ENVIRONMENT
        | {"LIMIT": "1000", "PROXY": free_address(), "ADMIN": free_address()}
        | {"DIRECTORY": str(directory), "MOCK": mock.url},
        check=True,
        timeout=DEADLINE + KILLS,
    )
