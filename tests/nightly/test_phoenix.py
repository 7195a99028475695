"""What Phoenix makes of the calls that pass, asked of Phoenix itself."""

import json
import pathlib
import sys

import pytest

from sidecar import Mock, Process, Tollgate, free_address, label, request, wait_for

COUNT = 3
PROJECT = "nightly"

CONFIG = """
listen: {proxy: "${PROXY}", admin: "${ADMIN}"}
providers: {openai: {base_url: "${MOCK}"}}
pricing: {gpt-4o: {input: 2.50, output: 10.00}}
store: {path: "${DIRECTORY}/data"}
ledger: {path: "${DIRECTORY}/data/journal"}
tracing:
  content: full
  processors:
    - {type: file, directory: "${DIRECTORY}/traces"}
    - {type: phoenix, endpoint: "${PHOENIX}", project: nightly, flush_interval: 100ms}
"""


class Phoenix(Process):
    """Phoenix, with its database in a directory."""

    def __init__(self, directory):
        address, grpc = free_address(), free_address()
        host, port = address.split(":")
        self.url = f"http://{address}"
        environment = {
            "PHOENIX_HOST": host,
            "PHOENIX_PORT": port,
            "PHOENIX_GRPC_PORT": grpc.split(":")[1],
            "PHOENIX_WORKING_DIR": str(directory / "phoenix"),
            "PHOENIX_TELEMETRY_ENABLED": "false",
        }
        program = str(pathlib.Path(sys.executable).parent / "phoenix")
        super().__init__(["serve"], directory / "phoenix.log", environment, program)
        # It makes its database first.
        wait_for("Phoenix", lambda: request(f"{self.url}/healthz")[0] == 200, 180)

    def spans(self):
        """What it has of the project, newest first."""
        status, _, body = request(f"{self.url}/v1/projects/{PROJECT}/spans?limit=100")
        return json.loads(body)["data"] if status == 200 else []


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """The spans of some calls in a file, and those in Phoenix by their ids."""
    directory = tmp_path_factory.mktemp("phoenix")
    config = directory / "tollgate.yaml"
    config.write_text(CONFIG)
    with Mock(directory) as mock, Phoenix(directory) as phoenix:
        with Tollgate(directory, mock, config, {"PHOENIX": phoenix.url}) as tollgate:
            for number in range(COUNT):
                headers = {"x-tollgate-session": "watched", "x-tollgate-user": "42"}
                if number == COUNT - 1:
                    headers["x-mock-status"] = "500"
                messages = [{"role": "user", "content": f"Question {number}"}]
                body = {"model": "gpt-4o", "max_tokens": 10, "messages": messages}
                request(f"{tollgate.url}/v1/chat/completions", body, headers)
            spans = tollgate.spans("watched", COUNT)

            def probe():
                found = phoenix.spans()
                return found if len(found) >= COUNT else None

            found = wait_for("spans in Phoenix", probe, 60)
            yield spans, {span["context"]["span_id"]: span for span in found}


def test_phoenix_has_every_call_under_its_ids(watched):
    spans, found = watched
    assert len(found) == COUNT
    for span in spans:
        there = found[span["span_id"]]
        assert there["context"]["trace_id"] == span["trace_id"]
        assert there["span_kind"] == "LLM"
        assert (there["status_code"] == "ERROR") == (span["status"] != "ok")


def test_phoenix_reads_models_tokens_and_sessions_in_its_own_names(watched):
    spans, found = watched
    for span in spans:
        attributes, told = span["attributes"], found[span["span_id"]]["attributes"]
        assert told["session.id"] == "watched"
        assert told["user.id"] == "42"
        if span["status"] != "ok":
            continue
        assert told["llm.model_name"] == attributes["gen_ai.response.model"]
        assert told["llm.token_count.prompt"] == attributes["gen_ai.usage.input_tokens"]
        assert told["llm.token_count.completion"] == attributes["gen_ai.usage.output_tokens"]
        assert told["llm.cost.total"] == float(label(span, "cost.usd"))
        assert "Question" in json.dumps(told)
