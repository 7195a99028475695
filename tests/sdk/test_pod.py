"""Pods with the sidecar, from manifest to end: what the kubelet would do with what `tollgate inject`
prints. Nothing is unmetered, and the last span is delivered."""

import itertools
import os
import re
import signal
import time
from pathlib import Path

import pytest

import namespaces
from namespaces import Host
from pods import AGENT, FIELDS, Pod, injected
from redirection import HERE_4, THERE_4, listen
from sidecar import DEADLINE, PROGRAM
from tls import Terminator

OBSTACLE = namespaces.obstacle()
pytestmark = pytest.mark.skipif(bool(OBSTACLE), reason=f"no network namespaces: {OBSTACLE}")

CONFIG = """
upstream: {ca_file: /etc/tollgate/secrets/ca.pem}
tracing:
  processors: [{type: file, directory: traces}]
"""

OLD = "--native-sidecar=false"

#: Wakings a second of an idle sidecar: two looks of each span processor, twice each by the timer's own
#: steps, and a few of workers.
WAKINGS = 30

MODES = pytest.mark.parametrize("mode", ["env", "proxy", "transparent"])

_numbers = itertools.count(1)


class Sample:
    """A Job of one pod, and the provider that it calls, on another host."""

    def __init__(self, directory, mock, asks, annotations, arguments):
        self.mock, self.test = mock, f"pod-{next(_numbers)}"
        for name in ("there", "provider", "pod"):
            (directory / name).mkdir()
        self.there = Host(directory / "there", {})
        listener = self.there.within(lambda: listen("0.0.0.0", 443))
        self.provider = Terminator(directory / "provider", mock.url, ["api.openai.com"], listener)
        ca = self.provider.authority.read_text()
        files = {"tollgate": {"config.yaml": CONFIG}, "provider": {"ca.pem": ca}}
        job = self._job(asks, annotations)
        if OLD in arguments:
            # Half of it the sidecar goes on taking calls.
            job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 10
        config = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "tollgate", "namespace": "agents"},
            "data": files["tollgate"],
        }
        _, job = injected([config, job], *arguments)
        names = {"api.openai.com": [THERE_4]}
        self.pod = Pod(directory / "pod", job["spec"]["template"], files, names)
        cable = (self.pod.host, [f"{HERE_4}/24"]), (self.there, [f"{THERE_4}/24"])
        namespaces.connect(*cable)

    def _job(self, asks, annotations):
        def container(name, asks):
            variables = [{"name": "TEST", "value": self.test}]
            return {"name": name, "image": "agent", "command": [*AGENT, asks], "env": variables}

        own = {"config": "tollgate", "secrets": "provider", "agent": "nightly"} | annotations
        template = {
            "metadata": {"annotations": {f"tollgate.dev/{key}": value for key, value in own.items()}},
            "spec": {
                "restartPolicy": "Never",
                "serviceAccountName": "bot",
                "initContainers": [container("warm-up", "1")],
                "containers": [container("agent", asks)],
            },
        }
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "nightly", "namespace": "agents"},
            "spec": {"template": template},
        }

    def metered(self, count):
        """So many calls reached the provider, and each is a span that says where it was made."""
        received = self.mock.received(self.test)
        spans = self.pod.spans()
        assert (len(received), len(spans)) == (count, count), self.pod.log("tollgate")
        for span in spans:
            attributes = span["attributes"]
            assert span["status"] == "ok", span
            assert attributes["gen_ai.usage.output_tokens"] > 0
            assert attributes["tollgate.agent"] == "nightly"
            assert attributes["server.address"] == "api.openai.com"
            assert attributes["k8s.pod.name"] == FIELDS["metadata.name"]
            assert attributes["k8s.namespace.name"] == "agents"
            assert attributes["k8s.node.name"] == "node-1"
            assert attributes["k8s.job.name"] == "nightly"
            assert attributes["tollgate.service_account"] == "bot"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.pod.__exit__()
        self.provider.__exit__()
        self.there.__exit__()


@pytest.fixture
def sample(tmp_path, mock):
    """Makes the pod of one test."""
    made = []

    def make(asks, annotations=None, *arguments):
        made.append(Sample(tmp_path, mock, asks, annotations or {}, arguments))
        return made[0], made[0].pod

    yield make
    for one in made:
        one.__exit__()


def unmetered(pod):
    """What the sidecar counted of what it could not meter."""
    samples = pod.metrics()
    assert samples["tollgate_ready"] == 1
    return {name: count for name, count in samples.items() if name.startswith("tollgate_unmetered") and count}


@MODES
def test_a_job_ends_with_every_call_metered_those_of_its_init_container_too(sample, mode):
    sample, pod = sample("3", {}, "--mode", mode)
    pod.begin()
    assert pod.containers["agent"].process.wait(DEADLINE) == 0, pod.log("agent")
    assert unmetered(pod) == {}
    codes = pod.end()
    assert set(codes.values()) == {0}, codes
    sample.metered(4)


@MODES
def test_what_is_told_to_end_goes_on_with_its_stream_and_may_still_call(sample, mode):
    sample, pod = sample("stream", {}, "--mode", mode)
    pod.begin()
    pod.until("agent", "piece:")
    pod.delete()
    codes = pod.end()
    assert set(codes.values()) == {0}, (codes, pod.log("agent"))
    assert "goodbye" in pod.log("agent")
    sample.metered(3)


def test_a_sidecar_that_is_told_to_end_lets_the_stream_finish(sample):
    sample, pod = sample("stream")
    pod.begin()
    pod.until("agent", "piece:")
    [sidecar] = pod.sidecars
    sidecar.process.send_signal(signal.SIGTERM)
    assert pod.containers["agent"].process.wait(DEADLINE) == 0, pod.log("agent")
    assert sidecar.process.wait(DEADLINE) == 0, sidecar.log.read_text()
    sample.metered(2)


def test_an_idle_sidecar_takes_next_to_nothing(sample):
    """What it takes of memory is promised of the release build, `TOLLGATE_BIN=target/release/tollgate`.
    How often it wakes is the same in every build, and on every machine, whatever else runs there."""
    _, pod = sample("1")
    pod.begin()
    assert pod.containers["agent"].process.wait(DEADLINE) == 0, pod.log("agent")
    [sidecar] = pod.sidecars
    taken, woken, began = cpu(sidecar), wakings(sidecar), time.monotonic()
    time.sleep(10)
    lasted = time.monotonic() - began
    part, wakes = (cpu(sidecar) - taken) / lasted, (wakings(sidecar) - woken) / lasted
    megabytes = resident(sidecar) / 1e6
    print(f"an idle sidecar: {megabytes:.1f} MB, {part:.2%} of a core, {wakes:.0f} wakings/s ({PROGRAM})")
    assert wakes < WAKINGS and part < 0.01
    assert megabytes < 20 or "release" not in PROGRAM
    pod.end()


def wakings(running):
    """How often its threads have gone to sleep."""
    statuses = Path(f"/proc/{running.process.pid}/task").glob("*/status")
    slept = [re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status.read_text(), re.M) for status in statuses]
    return sum(int(times[1]) for times in slept)


def cpu(running):
    """Seconds of a core that a process has taken."""
    fields = Path(f"/proc/{running.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(running):
    """Bytes of memory that it holds."""
    pages = Path(f"/proc/{running.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("asked", [True, False], ids=["asked to", "idle"])
def test_in_an_old_cluster_the_sidecar_of_a_job_ends_by_itself(sample, asked):
    idle = "10m" if asked else "1s"
    sample, pod = sample("3", {"quit-when-idle": idle}, OLD)
    begin_old(pod)
    assert pod.containers["agent"].process.wait(DEADLINE) == 0, pod.log("agent")
    if asked:
        assert pod.ask(4101, "/quit", "POST")[0] == 202
    assert pod.containers["tollgate"].process.wait(DEADLINE) == 0, pod.log("tollgate")
    sample.metered(3)


def test_in_an_old_cluster_calls_pass_while_all_are_told_to_end(sample):
    sample, pod = sample("stream", {"quit-when-idle": "10m"}, OLD)
    begin_old(pod)
    pod.until("agent", "piece:")
    pod.delete()
    assert pod.containers["agent"].process.wait(DEADLINE) == 0, pod.log("agent")
    assert "goodbye" in pod.log("agent")
    assert pod.containers["tollgate"].process.wait(2 * DEADLINE) == 0, pod.log("tollgate")
    sample.metered(2)


def begin_old(pod):
    """Starts it without its init containers, which an old cluster cannot lead to the sidecar."""
    pod.spec["initContainers"] = []
    pod.begin()
