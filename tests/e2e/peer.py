"""A peer written from docs/PROTOCOL.md alone, to say what no client of ours would: TLS, frames and a HELLO, then whatever a test wants."""

import pathlib
import socket
import ssl
import struct
import subprocess
import time

HELLO, PING, PONG, DATA, CREDIT, GOODBYE = 1, 2, 3, 4, 5, 6
FIRST, LAST = 1, 2
INFO_GET, INFO, OPEN, OPENED, STEP, RESULT, FAILED, CLOSE, DRAIN = range(1, 10)

GOOD_HELLO = b"\x08\x01\x10\x01\x28\x01\x32\x04test"  # versions 1 to 1, boot 1, agent "test"


def certificate(folder, kind="ed25519"):
    """A self-signed certificate and its key in one file. kind: an OpenSSL key type, such as rsa:2048."""
    path = pathlib.Path(folder) / f"{kind.replace(':', '-')}.pem"
    if not path.exists():
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if kind == "ec" else ["-newkey", kind]
        subprocess.run(["openssl", "req", "-x509", *key, "-nodes", "-days", "2", "-subj", "/CN=x", "-keyout", path, "-out", f"{path}.crt"],
                       check=True, capture_output=True)
        path.write_text(path.read_text() + pathlib.Path(f"{path}.crt").read_text())
    return path


def context(cert=None, alpn=("corolla/1",)):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    if alpn:
        tls.set_alpn_protocols(list(alpn))
    if cert:
        tls.load_cert_chain(cert)
    return tls


def frame(kind, payload=b"", flags=0, stream=0, size=None):
    return struct.pack("<BBHI", kind, flags, len(payload) if size is None else size, stream) + payload


def preamble(kind, header_size, body_size):
    return struct.pack("<HHI", kind, header_size, body_size)


class Peer:
    """A connection; with cert it speaks TLS from the start."""

    def __init__(self, address, cert=None, timeout=30, alpn=("corolla/1",), tls=True):
        self.socket = socket.create_connection(address, timeout)
        if tls:
            try:
                self.socket = context(cert, alpn).wrap_socket(self.socket)
            except OSError:
                self.socket.close()
                raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        """False when the other side has closed."""
        try:
            self.socket.sendall(data)
            return True
        except OSError:
            return False

    def hello(self):
        self.send(frame(HELLO, GOOD_HELLO))
        return self

    def read_frame(self):
        """(kind, flags, stream, payload), or None at the end."""
        head = self._read(8)
        if head is None:
            return None
        kind, flags, size, stream = struct.unpack("<BBHI", head)
        payload = self._read(size)
        return None if payload is None else (kind, flags, stream, payload)

    def _read(self, n):
        data = b""
        while len(data) < n:
            try:
                chunk = self.socket.recv(n - len(data))
            except TimeoutError:
                raise
            except OSError:
                return None
            if not chunk:
                return None
            data += chunk
        return data

    def read_goodbye(self):
        """The status of the GOODBYE with which the other side ends the link; None when it just ends it. PINGs are answered, so that
        the link does not end for silence. TimeoutError when it does not end within the timeout."""
        deadline = time.monotonic() + self.socket.gettimeout()
        while time.monotonic() < deadline:
            got = self.read_frame()
            if got is None:
                return None
            if got[0] == GOODBYE:
                return struct.unpack_from("<H", got[3])[0]
            if got[0] == PING:
                self.send(frame(PONG, got[3]))
        raise TimeoutError("the link did not end")

    def closed(self):
        """Waits, within the timeout, until the other side closes."""
        while True:
            try:
                if not self.socket.recv(65536):
                    return True
            except TimeoutError:
                return False
            except OSError:
                return True
