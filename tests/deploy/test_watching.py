"""Rules and dashboard: every metric that they ask for is one that a running Tollgate has, and a real
Prometheus finds something under every query."""

import json
import pathlib
import re
import socket
import time
import urllib.parse

import pytest
import yaml

from sidecar import PROGRAM, Mock, Process, Tollgate, free_address, request, wait_for
from tools import DEPLOY, run

RULES = DEPLOY / "prometheus/rules.yaml"
DASHBOARD = json.loads((DEPLOY / "grafana/tollgate.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

#: What Grafana puts in place of its variables.
VARIABLES = {"$__rate_interval": "10s", "$__range": "1m", "$job": ".*", "$instance": ".*"}


def queries():
    """Title and query of each target of each panel."""
    for panel in PANELS:
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            yield panel["title"], expression


def rules():
    """Every rule."""
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        yield from group["rules"]


class Prometheus(Process):
    """Prometheus with the shipped rules, which asks each of `targets` every second."""

    def __init__(self, directory, targets):
        config = directory / "prometheus.yaml"
        config.write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                    "rule_files": [str(RULES)],
                    "scrape_configs": [
                        {"job_name": "tollgate", "static_configs": [{"targets": targets}]}
                    ],
                }
            )
        )
        listen = free_address()
        self.url = f"http://{listen}"
        arguments = [
            f"--config.file={config}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address={listen}",
        ]
        super().__init__(arguments, directory / "prometheus.log", program="prometheus")
        self.until(lambda: request(f"{self.url}/-/ready")[0] == 200)

    def query(self, expression):
        """The series that it finds."""
        asked = urllib.parse.urlencode({"query": expression})
        status, _, body = request(f"{self.url}/api/v1/query?{asked}")
        assert status == 200, (expression, body)
        return json.loads(body)["data"]["result"]


@pytest.fixture(scope="module")
def webhook(tmp_path_factory):
    """The probes and metrics of a webhook; its API server is away."""
    directory = tmp_path_factory.mktemp("webhook")
    name = ["-subj", "/CN=webhook", "-addext", "subjectAltName=DNS:webhook"]
    files = ["-keyout", directory / "tls.key", "-out", directory / "tls.crt"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    run("openssl", "req", "-x509", *curve, *files, *name)
    (directory / "ca.crt").write_text((directory / "tls.crt").read_text())
    (directory / "token").write_text("token")
    listen, health, nowhere = (free_address() for _ in range(3))
    places = [f"--cert-dir={directory}", f"--service-account={directory}", f"--api=https://{nowhere}"]
    arguments = ["webhook", f"--listen={listen}", f"--health={health}", "--drain=0s", *places]
    with Process(arguments, directory / "webhook.log") as running:
        running.until(lambda: request(f"http://{health}/healthz")[0] == 200)
        yield f"http://{health}"


@pytest.fixture(scope="module")
def watched(tmp_path_factory, webhook):
    """A Prometheus that watches a Tollgate to which everything happens that the queries ask for."""
    directory = tmp_path_factory.mktemp("watched")
    config = pathlib.Path(__file__).parent / "watched.yaml"
    run(PROGRAM, "ca", "create", "--dir", directory / "ca")
    with Mock(directory) as mock, Tollgate(directory, mock, config) as tollgate:
        asked = [url.removeprefix("http://") for url in (tollgate.admin, webhook)]
        with Prometheus(directory, asked) as prometheus:
            elsewhere = prometheus.url.removeprefix("http://")
            # Twice, for a rate needs two looks at what is counted.
            happen(tollgate, elsewhere)
            wait_for("a first look", lambda: prometheus.query("tollgate_retries_total"))
            happen(tollgate, elsewhere)
            time.sleep(2)
            yield tollgate, prometheus


def happen(tollgate, elsewhere):
    """One call of each kind."""

    def call(agent, path="/v1/chat/completions", model="gpt-4o", **headers):
        message = {"role": "user", "content": "Hi"}
        asked = {"model": model, "messages": [message], "max_tokens": 10}
        if headers.pop("stream", False):
            asked["stream"] = True
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return request(f"{tollgate.url}{path}", asked, {"x-tollgate-agent": agent} | headers)[0]

    assert call("plain") == 200
    assert call("streams", stream=True) == 200
    assert call("fails", x_mock_status="500") == 500
    assert call("fails", x_stainless_retry_count="1") == 200
    assert call("unknown", path="/v1/of-no-kind-that-is-known") in (200, 404)
    assert call("broke") == 429
    assert call("guarded", model="gpt-4o-preview") == 403
    # A connection that passes unread.
    host, port = tollgate.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 10) as way:
        way.sendall(f"CONNECT {elsewhere} HTTP/1.1\r\nhost: {elsewhere}\r\n\r\n".encode())
        assert b" 200 " in way.recv(1000)


def test_the_rules_are_rules_and_go_off_when_they_should():
    assert "SUCCESS" in run("promtool", "check", "rules", RULES)
    assert "SUCCESS" in run("promtool", "test", "rules", RULES.with_name("rules_test.yaml"))
    tested = RULES.with_name("rules_test.yaml").read_text()
    alerts = [rule["alert"] for rule in rules() if "alert" in rule]
    assert len(alerts) == len(set(alerts)) > 10
    assert [alert for alert in alerts if alert not in tested] == []


def test_every_query_of_the_dashboard_finds_something(watched):
    _, prometheus = watched
    found = [(title, query) for title, query in queries() if wait_for_any(prometheus, query)]
    assert found == list(queries())


def wait_for_any(prometheus, query):
    """Whether a query finds something within some seconds."""
    try:
        return wait_for(query, lambda: prometheus.query(query), 10)
    except AssertionError:
        return []


def test_every_metric_of_the_rules_is_one_that_is_there(watched, webhook):
    tollgate, prometheus = watched
    there = "".join(request(f"{one}/metrics")[2].decode() for one in (tollgate.admin, webhook))
    there = set(re.findall(r"^# TYPE (\S+)", there, re.MULTILINE))
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    unknown = set()
    for rule in rules():
        asked = set(re.findall(r"\btollgate[_:][a-z0-9_:]+", rule["expr"]))
        asked = {re.sub(r"_bucket$", "", name) for name in asked}
        unknown |= asked - there - recorded
    assert unknown == set()
    told = json.loads(request(f"{prometheus.url}/api/v1/rules")[2])["data"]["groups"]
    found = [rule for group in told for rule in group["rules"]]
    assert len(found) == len(list(rules()))
    assert [rule for rule in found if rule["health"] == "err"] == []
    # What happened is told.
    unmetered = 'ALERTS{alertname="TollgateUnmeteredCalls"}'
    assert wait_for("an alert", lambda: prometheus.query(unmetered))


def test_the_dashboard_can_be_shown():
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in PANELS:
        assert panel["title"] and panel["description"] and panel["targets"], panel["id"]
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells)), "panels lie over one another"
    names = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z_]+)", json.dumps(DASHBOARD))) - {"__rate_interval", "__range", "__all"}
    assert used == names
