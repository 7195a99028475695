"""A pod as the kubelet runs it, without a cluster: the containers of an injected manifest as processes
in one network namespace, each with its own mounts, user, rights and environment, in their order of
start and stop."""

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from namespaces import Host
from sidecar import DEADLINE, ENVIRONMENT, HERE, PROGRAM, Process, read_spans, request, wait_for

#: What the downward API says of the pod.
FIELDS = {
    "metadata.name": "nightly-x7",
    "metadata.uid": "4d0c",
    "metadata.namespace": "agents",
    "spec.serviceAccountName": "bot",
    "spec.nodeName": "node-1",
}

#: What stands for the image of the app.
AGENT = [sys.executable, str(HERE / "pod_agent.py")]


def injected(manifests, *arguments):
    """The same manifests with the sidecar; as JSON, and so back as JSON."""
    listed = {"apiVersion": "v1", "kind": "List", "items": manifests}
    done = subprocess.run(
        [PROGRAM, "inject", "-f", "-", *arguments],
        env=ENVIRONMENT,
        input=json.dumps(listed),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["items"]


class Pod:
    """A pod by the template of an injected workload. `files` are what its ConfigMaps and Secrets hold,
    by their names; `names` what it finds in its /etc/hosts."""

    def __init__(self, directory, template, files, names):
        self.directory, self.spec, self.files = directory, template["spec"], files
        self.etc = directory / "etc"
        shutil.copytree("/etc", self.etc, symlinks=True, ignore_dangling_symlinks=True)
        (directory / "host").mkdir()
        self.host = Host(directory / "host", names)
        lines = [f"{address} {name}\n" for name, all in names.items() for address in all]
        (self.etc / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n" + "".join(lines))
        self._memory = tempfile.TemporaryDirectory(dir="/dev/shm")
        self.volumes = {volume["name"]: self._volume(volume) for volume in self.spec["volumes"]}
        #: Its containers that run or ran, by name.
        self.containers = {}

    def _volume(self, volume):
        memory = volume.get("emptyDir", {}).get("medium") == "Memory"
        place = Path(self._memory.name if memory else self.directory) / volume["name"]
        place.mkdir()
        if "emptyDir" in volume:
            place.chmod(0o777)
            return place
        name = volume.get("configMap", {}).get("name") or volume["secret"]["secretName"]
        # As Kubernetes lays them out, so that an edit comes all at once.
        (place / "..1").mkdir()
        (place / "..data").symlink_to("..1")
        for key, text in self.files[name].items():
            (place / "..1" / key).write_text(text)
            (place / key).symlink_to(f"..data/{key}")
        return place

    def command(self, container, arguments):
        """`arguments` as they are run in a container."""
        lines = ["mount -t tmpfs none /run", "mount -t tmpfs none /var/lib", f"mount --bind '{self.etc}' /etc"]
        lines += ["mkdir /run/bin", "touch /run/bin/tollgate", f"mount --bind '{PROGRAM}' /run/bin/tollgate"]
        for mount in container.get("volumeMounts", []):
            path, place = mount["mountPath"], self.volumes[mount["name"]]
            lines += [f"mkdir -p '{path}'", f"mount --bind '{place}' '{path}'"]
            if mount.get("readOnly"):
                lines.append(f"mount -o remount,bind,ro '{path}'")
        security = container.get("securityContext", {})
        if security.get("readOnlyRootFilesystem"):
            lines += [f"mount -o remount,bind,ro {path}" for path in ("/", "/etc", "/run", "/var/lib")]
        lines.append(f"cd '{container.get('workingDir', '/')}'")
        become = []
        if user := security.get("runAsUser"):
            become += [f"--reuid={user}", f"--regid={security['runAsGroup']}", "--clear-groups"]
        if capabilities := security.get("capabilities"):
            assert capabilities["drop"] == ["ALL"]
            rights = ",".join(["-all", *(f"+{name.lower()}" for name in capabilities.get("add", []))])
            become += [f"--bounding-set={rights}", f"--inh-caps={rights}"]
        if security.get("allowPrivilegeEscalation") is False:
            become.append("--no-new-privs")
        lines.append(f"exec {' '.join(['setpriv', *become] if become else [])} \"$@\"")
        script = "\n".join(lines)
        private = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh"]
        return self.host.command(*private, *arguments)

    def environment(self, container):
        variables = {"PATH": f"/run/bin:{ENVIRONMENT['PATH']}:/usr/sbin:/sbin", "HOME": "/nowhere"}
        for entry in container.get("env", []):
            source = entry.get("valueFrom")
            path = source and source["fieldRef"]["fieldPath"]
            variables[entry["name"]] = FIELDS[path] if path else entry["value"]
        return variables

    def start(self, container):
        """Starts a container; one that the kubelet would wait for is waited for."""
        arguments = [*container["command"], *container.get("args", [])]
        program, *rest = self.command(container, arguments)
        log = self.directory / f"{container['name']}.log"
        running = Process(rest, log, self.environment(container), program)
        self.containers[container["name"]] = running
        if hook := container.get("lifecycle", {}).get("postStart"):
            self._run(container, hook["exec"]["command"])
        elif probe := container.get("startupProbe"):
            get = probe["httpGet"]
            running.until(lambda: self.ask(get["port"], get["path"])[0] == 200)
        return running

    def _run(self, container, arguments):
        done = subprocess.run(
            self.command(container, arguments),
            env=self.environment(container),
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        assert done.returncode == 0, done.stderr

    def begin(self):
        """Starts all of it, in order."""
        for container in self.spec["initContainers"]:
            running = self.start(container)
            if container.get("restartPolicy") != "Always":
                code = running.process.wait(DEADLINE)
                assert code == 0, (container["name"], running.log.read_text())
        for container in self.spec["containers"]:
            self.start(container)

    @property
    def sidecars(self):
        """The init containers that stay, in the order in which they are ended."""
        init = reversed(self.spec["initContainers"])
        return [self.containers[it["name"]] for it in init if it.get("restartPolicy") == "Always"]

    def delete(self):
        """Tells what runs to end, as when the pod is deleted: the containers, all at once."""
        for container in self.spec["containers"]:
            running = self.containers[container["name"]].process
            if running.poll() is None:
                running.send_signal(signal.SIGTERM)

    def end(self):
        """Waits for the containers, and then ends the sidecars, as the kubelet does. What they are
        ended with is told by name."""
        for container in self.spec["containers"]:
            self.containers[container["name"]].process.wait(DEADLINE)
        for sidecar in self.sidecars:
            assert sidecar.process.poll() is None, sidecar.log.read_text()
            sidecar.end()
        return {name: running.process.returncode for name, running in self.containers.items()}

    def log(self, name):
        return self.containers[name].log.read_text()

    def ask(self, port, path, method=None):
        """Status, headers and body of a request from within the pod."""
        return self.host.within(lambda: request(f"http://127.0.0.1:{port}{path}", method=method))

    def metrics(self):
        """Every sample of /metrics, by what it is of."""
        lines = self.ask(4101, "/metrics")[2].decode().splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def spans(self):
        return list(read_spans(self.volumes["tollgate-data"] / "traces"))

    def until(self, name, text):
        """Waits until a container has written that."""
        wait_for(f"{text} of {name}", lambda: text in self.log(name))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for running in self.containers.values():
            if running.process.poll() is None:
                running.kill()
        self.host.__exit__()
        self._memory.cleanup()
