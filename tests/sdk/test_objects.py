"""Spans in an object store, read back by AWS's own client."""

import gzip
import json
import subprocess

import pytest

from peers import ObjectStore
from sidecar import HERE, Tollgate, read_spans, request, wait_for

COUNT = 5


@pytest.fixture(scope="module")
def stored(tmp_path_factory, mock):
    """The objects of some calls, their spans, and what Tollgate counted and logged of it."""
    directory = tmp_path_factory.mktemp("objects")
    token = directory / "token"
    token.write_text("a token of the cluster")
    with ObjectStore(directory) as store:
        region = {"LocationConstraint": store.REGION}
        store.client().create_bucket(Bucket="audit", CreateBucketConfiguration=region)
        variables = {
            "AWS_ENDPOINT_URL": store.url,
            "AWS_ENDPOINT_URL_STS": store.url,
            "AWS_REGION": store.REGION,
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/tollgate",
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
        }
        with Tollgate(directory, mock, HERE / "objects.yaml", variables) as tollgate:
            body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
            for _ in range(COUNT):
                assert request(f"{tollgate.url}/v1/chat/completions", body)[0] == 200

            def on_disk():
                metrics = request(f"{tollgate.admin}/metrics")[2].decode()
                return f'tollgate_spans_buffered{{processor="audit"}} {COUNT}' in metrics

            wait_for("spans on disk", on_disk)
            # They wait for more of them, until the end.
            assert not store.objects("audit")
            assert tollgate.end() == 0
        spans = list(read_spans(directory / "traces"))
        yield store.objects("audit"), spans, tollgate.log.read_text()


def of(objects, prefix):
    """The only object whose name begins so."""
    [found] = [(name, content) for name, content in objects.items() if name.startswith(prefix)]
    return found


def test_objects_hold_the_lines_of_files(stored):
    objects, spans, _ = stored
    assert len(spans) == COUNT and len(objects) == 2
    day = spans[0]["start_time"][:10]
    name, content = of(objects, f"llm calls/dt={day}/")
    assert name.endswith(".jsonl.gz")
    assert content["ContentType"] == "application/gzip"
    lines = gzip.decompress(content["Body"].read()).splitlines()
    assert [json.loads(line) for line in lines] == spans


def test_headers_and_compression_are_those_asked_for(stored):
    objects, spans, _ = stored
    name, content = of(objects, "keyed/")
    assert name.endswith(".jsonl.zst")
    assert content["StorageClass"] == "STANDARD_IA"
    assert content["Body"].read()[:4] == bytes.fromhex("28b52ffd")


def test_a_bucket_that_is_missing_is_told_by_its_name_for_it(stored):
    _, _, log = stored
    [line] = [line for line in log.splitlines() if "nowhere" in line and "refused" in line]
    assert "NoSuchBucket" in line
    assert "hush" not in log
