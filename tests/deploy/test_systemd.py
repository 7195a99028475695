"""The units, by systemd's own judgement, and the program on sockets that it is handed."""

import os
import re
import signal
import socket
import subprocess

import pytest

from sidecar import DEADLINE, ENVIRONMENT, PROGRAM, listens, free_address, request, wait_for
from tools import DEPLOY, checked, run

UNITS = DEPLOY / "systemd"
INSTALLED = "/usr/local/bin/tollgate"


@pytest.fixture
def units(tmp_path):
    """The units, with the program where it is here."""
    for unit in (*UNITS.glob("*.service"), *UNITS.glob("*.socket")):
        (tmp_path / unit.name).write_text(unit.read_text().replace(INSTALLED, PROGRAM))
    return tmp_path


def test_systemd_takes_the_units(units):
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, units.iterdir())],
        capture_output=True,
        text=True,
        timeout=60,
    )
    # It reads what else is installed, too.
    told = [line for line in done.stderr.splitlines() if "tollgate" in line]
    assert told == [] and done.returncode == 0, done.stderr


def test_the_configuration_is_one_whose_addresses_are_the_sockets():
    told = checked(UNITS / "tollgate.yaml")
    sockets = re.findall(r"^ListenStream=(.*)$", (UNITS / "tollgate.socket").read_text(), re.MULTILINE)
    assert all(f"http://{address}" in told for address in sockets)


def test_the_service_has_no_rights_that_it_does_not_need(units):
    told = run("systemd-analyze", "security", "--offline=true", units / "tollgate.service")
    exposure = re.search(r"Overall exposure level for tollgate.service: ([0-9.]+)", told)
    assert float(exposure[1]) < 1.5, told


def test_the_sockets_are_where_the_program_listens_by_default():
    sockets = re.findall(r"^ListenStream=(.*)$", (UNITS / "tollgate.socket").read_text(), re.MULTILINE)
    told = run(PROGRAM, "check", env=ENVIRONMENT, cwd="/")
    assert len(sockets) == 2 and all(f"http://{address}" in told for address in sockets)


class Manager:
    """What systemd does: it holds sockets, starts the program on them, and hears how it is."""

    def __init__(self, directory):
        self.directory = directory
        self.sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        self.proxy, self.admin = (
            f"127.0.0.1:{held.getsockname()[1]}" for held in self.sockets
        )
        self.heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.heard.settimeout(DEADLINE)
        self.heard.bind(str(directory / "notify"))
        self.log = directory / "log"
        self.config = directory / "tollgate.yaml"
        self.configure(self.proxy)

    def configure(self, proxy):
        self.config.write_text(
            f"listen: {{proxy: '{proxy}', admin: '{self.admin}'}}\n"
            f"store: {{path: '{self.directory}/data'}}\n"
            f"ledger: {{path: '{self.directory}/data/journal'}}\n"
        )

    def start(self):
        """Starts it as systemd does: the sockets are 3 and 4."""

        def hand_over():
            # Out of the way first, for either may be 3 or 4 already.
            high = [os.dup2(held.fileno(), 100 + number) for number, held in enumerate(self.sockets)]
            for number, held in enumerate(high):
                os.dup2(held, 3 + number)

        script = 'export LISTEN_PID=$$; exec "$0" "$@"'
        told = {"LISTEN_FDS": "2", "NOTIFY_SOCKET": str(self.directory / "notify")}
        with self.log.open("ab") as out:
            return subprocess.Popen(
                ["sh", "-c", script, PROGRAM, "run", "-c", str(self.config)],
                env=ENVIRONMENT | told,
                preexec_fn=hand_over,
                pass_fds=(3, 4),
                stdout=out,
                stderr=out,
            )

    def hears(self):
        return self.heard.recv(1000).decode()


@pytest.fixture
def manager(tmp_path):
    made = Manager(tmp_path)
    yield made
    for held in (*made.sockets, made.heard):
        held.close()


def test_calls_wait_in_sockets_that_systemd_holds_while_it_is_started_again(manager):
    first = manager.start()
    assert manager.hears() == "READY=1"
    assert request(f"http://{manager.admin}/healthz")[0] == 200
    first.send_signal(signal.SIGTERM)
    assert manager.hears() == "STOPPING=1"
    assert first.wait(DEADLINE) == 0, manager.log.read_text()
    # Nobody is there to accept it, and it is not refused.
    host, port = manager.proxy.split(":")
    with socket.create_connection((host, int(port)), DEADLINE) as waiting:
        waiting.sendall(b"GET /nowhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        second = manager.start()
        assert manager.hears() == "READY=1"
        answer = waiting.recv(1000)
    assert answer.startswith(b"HTTP/1.1 404"), answer
    second.send_signal(signal.SIGTERM)
    assert second.wait(DEADLINE) == 0, manager.log.read_text()


def test_a_socket_that_nobody_listens_on_is_an_error_that_says_so(manager):
    elsewhere = free_address()
    manager.configure(elsewhere)
    assert manager.start().wait(DEADLINE) == 2
    told = manager.log.read_text()
    assert f"hands over sockets at {manager.proxy}" in told and elsewhere in told


def test_systemds_own_tool_starts_it_at_the_first_connection(manager, tmp_path):
    for held in manager.sockets:
        held.close()
    command = ["systemd-socket-activate", f"--listen={manager.proxy}", f"--listen={manager.admin}"]
    with manager.log.open("ab") as out:
        process = subprocess.Popen(
            [*command, PROGRAM, "run", "-c", str(manager.config)],
            env=ENVIRONMENT,
            stdout=out,
            stderr=out,
        )
    try:
        wait_for("a socket", lambda: listens(manager.admin))
        answered = wait_for("an answer", lambda: request(f"http://{manager.admin}/healthz")[0])
        assert answered == 200, manager.log.read_text()
    finally:
        process.terminate()
        assert process.wait(DEADLINE) == 0
