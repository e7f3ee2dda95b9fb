"""A network namespace with only a loopback address, and one port on it that is forwarded to a service outside."""

import contextlib
import fcntl
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator

PORT = 8000
"""Where the service is found inside."""
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1


@contextlib.contextmanager
def isolated(service_port: int) -> Iterator[tuple[str, ...]]:
    """Yield the command prefix that runs a command inside. Needs root or unprivileged user namespaces.

    A socket belongs to the namespace where it was created: the listener is created inside, and accepted from here.
    """
    ours, theirs = socket.socketpair()
    is_root = os.geteuid() == 0
    unshare = ("unshare", "--net") if is_root else ("unshare", "--net", "--user", "--map-root-user")
    holder = subprocess.Popen(
        (*unshare, sys.executable, __file__, str(theirs.fileno())), pass_fds=[theirs.fileno()]
    )  # fmt: skip
    theirs.close()
    relays: list[threading.Thread] = []
    with ours:
        try:
            _, [descriptor], _, _ = socket.recv_fds(ours, 1, 1)
            with socket.socket(fileno=descriptor) as listener:
                accepting = threading.Thread(target=_accept, args=(listener, service_port, relays))
                accepting.start()
                try:
                    enter = ("nsenter", "--target", str(holder.pid), "--net")
                    yield enter if is_root else (*enter, "--user", "--preserve-credentials")
                finally:
                    listener.shutdown(socket.SHUT_RDWR)
                    accepting.join()
        finally:
            ours.shutdown(socket.SHUT_RDWR)
            assert holder.wait(60) == 0
            for relay in relays:
                relay.join(60)


def _accept(listener: socket.socket, port: int, relays: list[threading.Thread]) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:  # the listener was shut down
            return
        relays.append(threading.Thread(target=_relay, args=(client, port)))
        relays[-1].start()


def _relay(client: socket.socket, port: int) -> None:
    with client, socket.create_connection(("127.0.0.1", port)) as service:
        back = threading.Thread(target=_copy, args=(service, client))
        back.start()
        _copy(client, service)
        back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _hold(descriptor: int) -> None:
    """Inside: bring up the loopback interface, pass a listener out, and wait until the other side is closed."""
    with socket.socket(fileno=descriptor) as control, socket.socket() as listener:
        fcntl.ioctl(listener, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
        listener.bind(("127.0.0.1", PORT))
        listener.listen(128)
        socket.send_fds(control, [b"x"], [listener.fileno()])
        control.recv(1)


if __name__ == "__main__":
    _hold(int(sys.argv[1]))
