"""The Node SDKs: each file of node/ is a test run of its own."""

import subprocess

import pytest

from sidecar import ENVIRONMENT, HERE

FILES = sorted((HERE / "node").glob("*.test.mjs"))
assert FILES


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_node(file, tollgate, mock):
    known = {"TOLLGATE": tollgate.url, "TRACES": str(tollgate.traces), "MOCK": mock.url}
    done = subprocess.run(
        ["node", "--test", "--test-reporter=spec", str(file)],
        env=ENVIRONMENT | tollgate.variables() | known,
        capture_output=True,
        text=True,
        timeout=120,
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0
