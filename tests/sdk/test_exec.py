"""`tollgate exec`: an existing agent, and what it cost."""

import re
import subprocess
import sys

import pytest

from sidecar import DEADLINE, ENVIRONMENT, HERE, PROGRAM, request

AGENT = [sys.executable, str(HERE / "agent.py")]


@pytest.fixture
def run(mock, tmp_path):
    """Runs a command under `tollgate exec`, with the mock where its environment had OpenAI."""

    def execute(*arguments):
        pointed = {"OPENAI_BASE_URL": f"{mock.url}/v1", "OPENAI_API_KEY": "sk-test"}
        return subprocess.run(
            [PROGRAM, "exec", *arguments],
            cwd=tmp_path,
            env=ENVIRONMENT | pointed,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )

    return execute


def test_the_agent_runs_and_its_cost_is_told(run):
    done = run("--", *AGENT, "2", "0")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2, "nothing but what the agent printed"
    assert re.search(r"\$0\.0\d+", done.stderr), done.stderr
    assert "gpt-4o" in done.stderr


def test_the_agents_exit_code_is_passed_on(run):
    assert run("--", *AGENT, "0", "7").returncode == 7
    assert run("--", "sh", "-c", "kill -TERM $$").returncode == 128 + 15


def test_a_budget_cuts_the_agent_off(run, mock):
    before = mock.count()
    done = run("--budget", "0.02", "--", *AGENT, "100000", "0")
    assert done.returncode == 1
    assert "RateLimitError" in done.stderr and "exec" in done.stderr
    assert 0 < mock.count() - before < 100000
    [spent] = re.findall(r"\$(\d+\.\d+)", done.stderr)[-1:]
    assert 0 < float(spent) <= 0.02


def test_every_sdk_is_pointed_at_the_sidecar(run):
    done = run("--", "env")
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    url = found["ANTHROPIC_BASE_URL"]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
    for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE"):
        assert found[name] == f"{url}/v1"
    assert found["GOOGLE_GEMINI_BASE_URL"] == url
    assert request(url)[0] == 0, "the sidecar ends with its command"


def test_a_command_that_is_not_there_ends_as_in_a_shell(run):
    done = run("--", "no-such-command")
    assert done.returncode == 127
    assert "no-such-command" in done.stderr
