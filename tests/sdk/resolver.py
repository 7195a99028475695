"""A server of names that does not stand by what it says."""

import contextlib
import ipaddress
import struct
import threading

#: Types of records by versions of IP, and codes of answers.
TYPES = {1: 4, 28: 6}
GOOD, NO_SUCH_NAME = 0, 3


class Resolver:
    """Answers what comes to a socket of UDP, until the `with` block ends.

    `names` has for each name what it stands for, in turn: lists of addresses, each told once to whoever
    asks for IPv4 and once to whoever asks for IPv6, of which nothing may be kept (a TTL of 0). After the
    last comes the first again."""

    def __init__(self, listener, names):
        self._listener, self._names = listener, names
        #: What it was asked, in order: the name, and 4 or 6.
        self.asked = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                question, client = self._listener.recvfrom(512)
                self._listener.sendto(self._answer(question), client)

    def _answer(self, message):
        """RFC 1035, 4.1: the header, the question again, and the records."""
        labels, end = [], 12
        while length := message[end]:
            labels.append(message[end + 1 : end + 1 + length].decode().lower())
            end += 1 + length
        name, version = ".".join(labels), TYPES.get(struct.unpack_from("!H", message, end + 1)[0])
        turn = self.asked.count((name, version))
        self.asked.append((name, version))
        turns = self._names.get(name)
        told = map(ipaddress.ip_address, turns[turn % len(turns)] if turns else [])
        told = [address.packed for address in told if address.version == version]
        code = GOOD if turns else NO_SUCH_NAME
        # It is an answer, from whom the name belongs to; recursion was asked for and is given.
        header = message[:2] + struct.pack("!5H", 0x8580 | code, 1, len(told), 0, 0)
        records = [message[end + 1 : end + 5] + struct.pack("!IH", 0, len(at)) + at for at in told]
        # Each is of the name that stands at byte 12.
        return header + message[12 : end + 5] + b"".join(b"\xc0\x0c" + record for record in records)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()
