"""Programs that spans and metrics are sent to, as processes of their own."""

import json
import pathlib
import sys

import boto3

from sidecar import Process, free_address, listens, request

#: Where the programs of the pinned Python packages are.
PYTHON_PROGRAMS = pathlib.Path(sys.executable).parent


class Agent(Process):
    """Datadog's test agent, which checks what it gets as far as it is asked to."""

    CHECKS = "trace_count_header,meta_tracer_version_header,trace_content_length"

    def __init__(self, directory):
        addresses = [free_address() for _ in range(3)]
        self.url = f"http://{addresses[0]}"
        ports = [address.split(":")[1] for address in addresses]
        names = ["--port", "--otlp-http-port", "--otlp-grpc-port"]
        arguments = [part for pair in zip(names, ports) for part in pair]
        arguments += ["--snapshot-dir", str(directory), "--disable-llmobs-data-forwarding"]
        checks = {"ENABLED_CHECKS": self.CHECKS}
        program = str(PYTHON_PROGRAMS / "ddapm-test-agent")
        super().__init__(arguments, directory / "agent.log", checks, program)
        self.until(lambda: request(f"{self.url}/info")[0] == 200)

    def traces(self):
        """The traces that it read: lists of spans."""
        return json.loads(request(f"{self.url}/test/session/traces")[2])

    def requests(self):
        """The requests that it got, their bodies in base64."""
        return json.loads(request(f"{self.url}/test/session/requests")[2])


class Pushgateway(Process):
    """Prometheus' gateway for metrics that are pushed."""

    def __init__(self, directory):
        self.address = free_address()
        self.url = f"http://{self.address}"
        arguments = [f"--web.listen-address={self.address}"]
        program = "prometheus-pushgateway"
        super().__init__(arguments, directory / "pushgateway.log", program=program)
        self.until(lambda: listens(self.address))

    def metrics(self):
        """Everything that was pushed to it, as text."""
        return request(f"{self.url}/metrics")[2].decode()


class Prometheus(Process):
    """Prometheus, which asks one address every second."""

    def __init__(self, directory, address):
        config = directory / "prometheus.json"
        job = {
            "job_name": "pushed",
            "honor_labels": True,
            "static_configs": [{"targets": [address]}],
        }
        asks = {"scrape_interval": "1s", "scrape_timeout": "1s"}
        config.write_text(json.dumps({"global": asks, "scrape_configs": [job]}))
        listen = free_address()
        self.url = f"http://{listen}"
        arguments = [
            f"--config.file={config}",
            f"--storage.tsdb.path={directory / 'prometheus'}",
            f"--web.listen-address={listen}",
        ]
        super().__init__(arguments, directory / "prometheus.log", program="prometheus")
        self.until(lambda: request(f"{self.url}/-/ready")[0] == 200)

    def query(self, expression):
        """What it says: labels and value of each series."""
        _, _, body = request(f"{self.url}/api/v1/query?query={expression}")
        found = json.loads(body)["data"]["result"]
        return [(series["metric"], series["value"][1]) for series in found]


class ObjectStore(Process):
    """An object store that speaks as S3 does, and hands out keys for web identities."""

    REGION = "eu-central-1"

    def __init__(self, directory):
        self.address = free_address()
        self.url = f"http://{self.address}"
        host, port = self.address.split(":")
        program = str(PYTHON_PROGRAMS / "moto_server")
        super().__init__(["-H", host, "-p", port], directory / "store.log", program=program)
        self.until(lambda: listens(self.address))

    def client(self):
        """AWS's own client of it."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=self.REGION,
            aws_access_key_id="reader",
            aws_secret_access_key="unchecked",
        )

    def objects(self, bucket):
        """The content of each object, by its name."""
        listed = self.client().list_objects_v2(Bucket=bucket).get("Contents", [])
        get = self.client().get_object
        return {at["Key"]: get(Bucket=bucket, Key=at["Key"]) for at in listed}
