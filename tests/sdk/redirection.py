"""What the tests of redirected connections share: agents on a host whose connections the system leads
to Tollgate there, and a provider on another host."""

import contextlib
import json
import re
import socket
import threading

import namespaces
from namespaces import Host
from sidecar import HERE, PROGRAM, Process, read_spans, request, wait_for
from tls import Terminator, join

#: Who Tollgate runs as.
USER = 1337

#: Addresses that are for examples, and so nobody's.
HERE_4, THERE_4 = "198.51.100.1", "198.51.100.2"
HERE_6, THERE_6 = "2001:db8::1", "2001:db8::2"

NAMES = {
    "api.openai.com": [THERE_4, THERE_6],
    "vllm.example": [THERE_4],
    "unasked.example": [THERE_4],
    "other.example": [THERE_4, THERE_6],
}

ASK = {"model": "gpt-4o", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]}
URL = "https://api.openai.com/v1/chat/completions"


class Hosted(Process):
    """Tollgate on a host, with an authority of its own. `variables` are for its configuration; `user`
    is who it runs as, root if nobody, and `rights` what that user may besides; `agents` who the agents
    there run as."""

    def __init__(self, host, directory, config, variables=None, user=USER, rights=(), agents=None):
        self.host, self.directory, self.agents = host, directory, agents
        directory.chmod(0o777)
        self.variables = {"DIRECTORY": str(directory)} | (variables or {})
        self.config = ["-c", str(HERE / config)]
        self._as = {"user": user, "rights": rights}
        self.tollgate("ca", "create", *self.config)
        command = host.command(PROGRAM, "run", *self.config, **self._as)
        super().__init__(command[1:], directory / "tollgate.log", self.variables, command[0])
        self.until(lambda: self.ask("/readyz")[0] == 200)
        self._taken = 0

    def tollgate(self, *arguments):
        """What a command of Tollgate's prints, on its host and as its user."""
        return self.host.must(PROGRAM, *arguments, environment=self.variables, **self._as)

    def trust(self):
        """The variables by which programs trust what it shows, and a provider's key."""
        variables = self.tollgate("ca", "env", "--format", "json", *self.config)
        return json.loads(variables) | {"OPENAI_API_KEY": "sk-test"}

    def redirect(self, action, *arguments):
        """`tollgate redirect`, as an administrator."""
        return self.host.must(PROGRAM, "redirect", action, *arguments, environment=self.variables)

    @contextlib.contextmanager
    def redirecting(self, backend, *whose):
        """Connections of its host are redirected for so long, by that program."""
        by = ["--backend", backend]
        self.redirect("apply", *by, *whose, "--ports", "80,443", *self.config)
        try:
            yield
        finally:
            self.redirect("remove", *by)

    def ask(self, path):
        return self.host.within(lambda: request(f"http://127.0.0.1:3001{path}"))

    def metric(self, pattern):
        """The sum of the samples that a pattern matches."""
        text = self.ask("/metrics")[2].decode()
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(pattern, line))

    def held(self, what):
        """How many of what has a bound there are now."""
        lines = self.ask("/metrics")[2].decode().splitlines()
        [sample] = [line for line in lines if line.startswith(f'tollgate_held{{what="{what}"}} ')]
        return float(sample.rsplit(" ", 1)[1])

    def spans(self, count):
        """The next spans, once there are so many."""

        def probe():
            found = list(read_spans(self.directory / "traces"))[self._taken :]
            return found if len(found) >= count else None

        found = wait_for(f"{count} spans", probe)
        self._taken += len(found)
        assert len(found) == count, found
        return found

    def none(self):
        """There were no calls."""
        assert len(list(read_spans(self.directory / "traces"))) == self._taken


@contextlib.contextmanager
def away(mock, directory):
    """The agents' host, and the provider on its own."""
    for name in ("here", "there", "provider"):
        (directory / name).mkdir()
    here, there = Host(directory / "here", NAMES), Host(directory / "there", {})
    with here, there:
        addresses = [f"{HERE_4}/24", f"{HERE_6}/64"], [f"{THERE_4}/24", f"{THERE_6}/64"]
        namespaces.connect((here, addresses[0]), (there, addresses[1]))
        listeners = there.within(lambda: [listen(THERE_4, 443), listen(THERE_6, 443)])
        plain = there.within(lambda: [listen(THERE_4, 80), listen(THERE_6, 80)])
        for listener in plain:
            threading.Thread(target=relay, args=(listener, mock.url), daemon=True).start()
        names = [*NAMES, THERE_4, THERE_6]
        one, other = listeners
        with Terminator(directory / "provider", mock.url, names, one) as provider:
            provider.accept(other)
            yield here, provider
        for listener in plain:
            listener.close()


def listen(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family)


def relay(listener, url):
    """Passes what comes to a plain server."""
    host, port = url.removeprefix("http://").split(":")
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        there = socket.create_connection((host, int(port)))
        threading.Thread(target=join, args=(client, there), daemon=True).start()


def curl(tollgate, url, *arguments, body=ASK, environment=None):
    """Status, version of HTTP and body of an agent's call by curl; the status is 0 if there was none."""
    send = ["--data-binary", json.dumps(body)] if body else []
    done = tollgate.host.run(
        *["curl", "-sS", "-w", "\\n%{http_code} %{http_version}", "--max-time", "15"],
        *["-H", "content-type: application/json", *send, *arguments, url],
        environment=environment,
        user=tollgate.agents,
    )
    body, _, last = done.stdout.rpartition("\n")
    status, version = last.split()
    return int(status), version, body or done.stderr


def metered(span):
    attributes = span["attributes"]
    assert span["status"] == "ok", span
    assert attributes["server.address"] == "api.openai.com"
    assert attributes["gen_ai.usage.output_tokens"] > 0
    assert float(attributes["tollgate.cost.usd"]) > 0
