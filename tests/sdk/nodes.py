"""The Node SDKs, asked through a program that has them."""

import functools
import json

from sidecar import HERE, Process, request


class Node(Process):
    """`node/asks.mjs`, which knows the ways to ask."""

    def __init__(self, directory):
        asks = str(HERE / "node" / "asks.mjs")
        super().__init__([asks], directory / "node.log", program="node")
        self.until(lambda: self.log.read_text().endswith("\n"))
        self.url = f"http://{self.log.read_text().strip()}"

    def client(self, url, headers, then=None, **options):
        """Asks in a way, by its name, with clients of these options: gives what the SDK answers, or
        raises its exception as a `NodeError`. `then`: what is done when a stream has begun."""

        def ask(way):
            body = {"way": way, "url": url, "headers": headers, "options": options}
            body |= {"then": then} if then else {}
            status, _, came = request(self.url, body)
            assert status == 200, self.log.read_text()
            came = json.loads(came)
            if error := came.get("error"):
                classes = tuple(node_error(name) for name in error["names"])
                raise type(error["names"][0], classes, {})(error["message"])
            return came["answer"]

        return ask


class NodeError(Exception):
    """An exception in Node."""


@functools.cache
def node_error(name):
    """The class of that name in Node."""
    return type(name, (NodeError,), {})
