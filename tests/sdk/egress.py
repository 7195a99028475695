"""A proxy on the way out, as companies have them."""

import contextlib
import socket
import threading

from tls import join


class Egress:
    """Takes `CONNECT`, until the `with` block ends. Whatever host is asked for is at `place`."""

    def __init__(self, place):
        self._place = place
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        #: What was asked for.
        self.asked = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        head = b""
        while b"\r\n\r\n" not in head:
            # Byte by byte: what comes behind is not for us.
            byte = client.recv(1)
            if not byte:
                client.close()
                return
            head += byte
        method, asked, _ = head.decode().split(" ", 2)
        assert method == "CONNECT", head
        self.asked.append(asked)
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        join(client, socket.create_connection(self._place))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()
