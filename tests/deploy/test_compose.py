"""The compose file: what it mounts is there and is taken by the programs that read it."""

import pathlib
import re

import yaml

from sidecar import PROGRAM
from tools import DEPLOY, checked, run

COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]


def test_the_sidecar_takes_its_configuration():
    told = checked(DEPLOY / "compose/tollgate.yaml")
    assert "$5.00 a day" in told


def test_prometheus_takes_its_configuration(tmp_path):
    for name in ("compose/prometheus.yaml", "prometheus/rules.yaml"):
        text = (DEPLOY / name).read_text()
        (tmp_path / pathlib.Path(name).name).write_text(text)
    assert "SUCCESS" in run("promtool", "check", "config", tmp_path / "prometheus.yaml")


def test_whatever_is_mounted_is_there():
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            known = source in COMPOSE["volumes"] or (DEPLOY / source).exists()
            assert known, f"{name}: {source}"


def test_the_agent_is_told_where_tollgate_listens():
    agent, tollgate = SERVICES["agent"], SERVICES["tollgate"]
    assert agent["network_mode"] == "service:tollgate"
    addresses = [url for url in agent["environment"].values() if url.startswith("http:")]
    assert len(addresses) == 3
    assert {re.match(r"http://([^/]+)", url)[1] for url in addresses} == {"127.0.0.1:4100"}
    assert tollgate["user"] == "4100:4100" and tollgate["read_only"] and tollgate["cap_drop"] == ["ALL"]


def test_grafana_finds_the_dashboard_and_prometheus():
    [source] = yaml.safe_load((DEPLOY / "compose/grafana/datasource.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    [dashboards] = yaml.safe_load((DEPLOY / "compose/grafana/dashboards.yaml").read_text())["providers"]
    mounted = [volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]]
    assert dashboards["options"]["path"] in mounted


def test_the_sidecars_health_is_asked_for_by_a_command_that_there_is():
    [kind, *command] = SERVICES["tollgate"]["healthcheck"]["test"]
    assert kind == "CMD" and command[0] == "tollgate"
    assert "Usage: tollgate wait" in run(PROGRAM, *command[1:], "--help")
