"""Tollgate and its mock providers as processes of their own, and what they wrote down."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).parent
PROGRAM = os.environ.get("TOLLGATE_BIN", str(HERE.parent.parent / "target/debug/tollgate"))

#: Seconds until something that is sure to happen counts as failed.
DEADLINE = 20

#: The environment of what is started here: nothing of the tests' own.
ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}

#: Requests of the tests' own go straight to loopback, whatever proxy the environment names.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_address():
    """An address on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def listens(address):
    """Whether anybody listens there."""
    host, port = address.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def wait_for(what, probe, deadline=DEADLINE):
    """The first true answer of `probe`, asked every 10 ms. `what` says what is missing if there is
    none in `deadline` seconds."""
    end = time.monotonic() + deadline
    while True:
        if found := probe():
            return found
        assert time.monotonic() < end, f"{what}: not within {deadline} s"
        time.sleep(0.01)


def request(url, body=None, headers=None, method=None):
    """Status, headers and body of an HTTP request made by hand; `body` is sent as JSON. The status
    is 0 if there was no answer."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"} | (headers or {})
    try:
        asked = urllib.request.Request(url, data, headers, method=method)
        with _direct.open(asked, timeout=DEADLINE) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.headers, refused.read()
    except OSError:
        return 0, {}, b""


class Process:
    """A program that runs until the `with` block ends. What it prints goes to `log`."""

    def __init__(self, arguments, log, environment=None, program=PROGRAM):
        self.log = pathlib.Path(log)
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [program, *arguments],
                env=ENVIRONMENT | (environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    def until(self, ready):
        """Waits until `ready` says so; a program that ends before is an error with its output."""

        def probe():
            code = self.process.poll()
            assert code is None, f"ended with {code}:\n{self.log.read_text()}"
            return ready()

        wait_for(f"{self.process.args} is ready", probe)

    def kill(self):
        """Ends it as a crash does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(DEADLINE)

    def end(self):
        """Ends it as an operator does, and returns its exit code."""
        self.process.terminate()
        return self.process.wait(DEADLINE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            try:
                self.end()
            except subprocess.TimeoutExpired:
                self.kill()
                raise


class Mock(Process):
    """`tollgate mock`: the providers."""

    def __init__(self, directory, *arguments):
        address = free_address()
        self.url = f"http://{address}"
        super().__init__(["mock", "--listen", address, *arguments], directory / "mock.log")
        self.until(lambda: listens(address))

    def count(self):
        """How many requests it got."""
        _, _, body = request(f"{self.url}/__mock/requests", method="DELETE")
        return json.loads(body)["count"]

    def received(self, test):
        """The requests that it got with the header `x-test: test`, oldest first."""
        _, _, body = request(f"{self.url}/__mock/requests")
        return [
            kept | {"headers": dict(kept["headers"])}
            for kept in json.loads(body)["requests"]
            if ["x-test", test] in kept["headers"]
        ]


class Tollgate(Process):
    """`tollgate run`, with a configuration that names its addresses, its directory and the mock by
    variables. Started again in the same directory, it finds what the one before left."""

    def __init__(self, directory, mock, config, more=None):
        proxy, admin = free_address(), free_address()
        self.url, self.admin = f"http://{proxy}", f"http://{admin}"
        self.traces = directory / "traces"
        variables = {"PROXY": proxy, "ADMIN": admin, "DIRECTORY": str(directory), "MOCK": mock.url}
        arguments = ["run", "-c", str(config)]
        super().__init__(arguments, directory / "tollgate.log", variables | (more or {}))
        self.until(lambda: request(f"{self.admin}/readyz")[0] == 200)

    def variables(self):
        """What points each SDK at it."""
        return {
            "OPENAI_BASE_URL": f"{self.url}/v1",
            "OPENAI_API_KEY": "sk-test",
            "ANTHROPIC_BASE_URL": self.url,
            "ANTHROPIC_API_KEY": "sk-ant-test",
            "GOOGLE_GEMINI_BASE_URL": self.url,
            "GEMINI_API_KEY": "test",
        }

    def ask(self, path):
        """The admin API's status and answer at `path`."""
        status, _, body = request(f"{self.admin}/api/v1/{path}")
        return status, body

    def api(self, path):
        """What the admin API says at `path`."""
        status, body = self.ask(path)
        assert status == 200, (path, status, body)
        return json.loads(body)

    def spans(self, session, count):
        """The spans of a session, once there are `count` of them or more."""

        def probe():
            found = [s for s in read_spans(self.traces) if label(s, "session") == session]
            return found if len(found) >= count else None

        return wait_for(f"{count} spans of {session}", probe)


def read_spans(directory):
    """Every span in the files of a directory, in the order in which they were written."""
    for file in sorted(directory.glob("*.jsonl")):
        for line in file.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                yield json.loads(line)


def label(span, name):
    """A label of a span; nothing if it has none."""
    return span["attributes"].get(f"tollgate.{name}")


def part(span, names):
    """Those attributes of a span that `names` has, for comparison with it."""
    return {name: span["attributes"].get(name) for name in names}
