"""deploy/README.md: its commands are run as they are written, as far as they need no cluster, no
container engine and no running systemd; its links lead somewhere."""

import os
import re
import shlex
import shutil
import subprocess

import pytest

from sidecar import PROGRAM
from tools import DEPLOY, ROOT, program

README = (DEPLOY / "README.md").read_text()

COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]

#: How commands begin that are run here.
RUN = ("deploy/build.sh", "helm lint", "helm template", "kubectl kustomize", "promtool", "tollgate inject")

#: How those begin that need what is not here, or would change this machine.
ELSEWHERE = ("cargo build", "docker", "install ", "kubectl", "helm install", "helm upgrade", "helm test")
ELSEWHERE += ("helm uninstall", "systemctl")

HERE = [command for command in COMMANDS if command.startswith(RUN)]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Where the programs are that the commands name."""
    directory = tmp_path_factory.mktemp("bin")
    for name, there in [("tollgate", PROGRAM), ("helm", program("helm")), ("kubectl", program("kubectl"))]:
        (directory / name).symlink_to(there)
    return f"{directory}:{os.environ['PATH']}"


def test_every_command_is_run_here_or_named_as_one_that_is_not():
    assert len(HERE) > 10
    assert [one for one in COMMANDS if not one.startswith(RUN + ELSEWHERE)] == []


@pytest.mark.parametrize("command", HERE)
def test_it_runs_as_it_is_written(command, path, tmp_path):
    # The program is where this run of the tests has it.
    command = command.replace("target/debug/tollgate", PROGRAM)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=ROOT,
        env=os.environ | {"PATH": path, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    # Images are large.
    shutil.rmtree(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("command", [one for one in COMMANDS if one.startswith(("helm install", "helm upgrade"))])
def test_helm_would_take_it(command, path):
    """Without a cluster an upgrade is an installation with the same values."""
    words = shlex.split(command.replace("helm upgrade", "helm install"))
    words = [word for word in words if word != "--reset-then-reuse-values"]
    done = subprocess.run(
        [*words, "--dry-run=client"],
        cwd=ROOT,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "NOTES:" in done.stdout


def test_what_it_names_is_there():
    named = re.findall(r"\]\(([^)#]+)\)", README)
    for command in COMMANDS:
        words = command.split()
        named += ["../" + word for word in words if word.startswith(("deploy/", "config/"))]
    missing = [name for name in named if not (DEPLOY / name).exists()]
    assert missing == []
    headings = re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= anchors
