"""Two hosts on one machine, as network namespaces with a cable between them. They end with the
process that made them, however it ends."""

import concurrent.futures
import contextlib
import ctypes
import os
import shutil
import subprocess

from sidecar import DEADLINE, ENVIRONMENT

#: What both need, and what they are found in.
PROGRAMS = {"ip": "iproute2", "nft": "nftables", "iptables": "iptables", "setpriv": "util-linux"}

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000

#: The system's programs, some of which stand where users do not look.
_ENVIRONMENT = ENVIRONMENT | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}


def obstacle():
    """Why hosts cannot be made here; nothing if they can."""
    path = _ENVIRONMENT["PATH"]
    if missing := [package for name, package in PROGRAMS.items() if not shutil.which(name, path=path)]:
        return f"not installed: {' '.join(missing)}"
    if os.geteuid():
        return "not root"
    trial = "mount --make-rprivate / && nft list ruleset && iptables -t nat -S && ip6tables -t nat -S"
    tried = _run(["unshare", "--net", "--mount", "sh", "-ec", trial])
    return tried.stderr.strip() if tried.returncode else None


class Host:
    """One host. `names` are what it finds in its /etc/hosts: addresses by name. For all others it asks
    the server at the address `resolver`, if one is given."""

    def __init__(self, directory, names, resolver=None):
        hosts = directory / "hosts"
        lines = [f"{address} {name}\n" for name, all in names.items() for address in all]
        hosts.write_text("127.0.0.1 localhost\n::1 localhost\n" + "".join(lines))
        script = f"mount --bind '{hosts}' /etc/hosts; ip link set lo up; "
        if resolver:
            # Nobody else on this machine is to be asked first, nor about other names.
            asked = f"nameserver {resolver}\nsearch .\n"
            for name, text in {"resolv.conf": asked, "nsswitch.conf": "hosts: files dns\n"}.items():
                (directory / name).write_text(text)
                script += f"mount --bind '{directory / name}' /etc/{name}; "
        script += "echo; exec cat"
        # It ends with its standard input, which is ours alone.
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-ec", script],
            env=_ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout.readline() == b"\n", "a host could not be made"
        self.pid = self._holder.pid

    def command(self, *arguments, user=None, rights=()):
        """The same command in this host. A user other than root may read what root may, and what
        `rights` say besides."""
        spaces = [f"--{kind}=/proc/{self.pid}/ns/{short}" for kind, short in _SPACES.items()]
        rights = ",".join(f"+{right}" for right in ("dac_override", "dac_read_search", *rights))
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        become += [f"--inh-caps={rights}", f"--ambient-caps={rights}"]
        return ["nsenter", *spaces, "--", *(become if user else []), *map(str, arguments)]

    def run(self, *arguments, user=None, rights=(), **options):
        """Runs a command to its end."""
        return _run(self.command(*arguments, user=user, rights=rights), **options)

    def must(self, *arguments, **options):
        """What a command prints that must not fail."""
        done = self.run(*arguments, **options)
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def within(self, work):
        """What `work()` gives in a thread that has this host's network; sockets keep it."""

        def enter():
            with open(f"/proc/{self.pid}/ns/net") as space:
                if _libc.setns(space.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            return work()

        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            return thread.submit(enter).result(DEADLINE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self._holder.stdin.close()
        self._holder.wait(DEADLINE)
        self._holder.stdout.close()


_SPACES = {"net": "net", "mount": "mnt"}


def connect(one, other):
    """Lays a cable between two hosts: each its host, and its addresses with their prefixes."""
    ends = [("cable0", *one), ("cable1", *other)]
    [(_, first, _), (_, second, _)] = ends
    link = ["ip", "link", "add", "cable0", "netns", str(first.pid), "type", "veth"]
    made = _run([*link, "peer", "name", "cable1", "netns", str(second.pid)])
    assert made.returncode == 0, made.stderr
    for name, host, addresses in ends:
        for address in addresses:
            # Nobody else can have an address of IPv6, so that there is nothing to wait for.
            lone = ["nodad"] if ":" in address else []
            host.must("ip", "address", "add", address, "dev", name, *lone)
        host.must("ip", "link", "set", name, "up")


def _run(arguments, environment=None, deadline=DEADLINE, **options):
    return subprocess.run(
        arguments,
        env=_ENVIRONMENT | (environment or {}),
        capture_output=True,
        text=True,
        timeout=deadline,
        **options,
    )
