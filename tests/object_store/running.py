"""Starts the object store of `tests.object_store.server` as a process, and measures what is asked of it."""

import contextlib
import http.client
import importlib.util
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

SERVER = Path(__file__).parent / "server.py"
NEEDED = ("s3fs", "moto", "flask")
"""What the extras `s3` and `dev` install: without them nothing here can run."""

_COUNTER = itertools.count()


def missing():
    """Return which of the needed packages are not installed."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


class ObjectServer:
    """The process, with what its layer may be told.

    Attributes:
        port: Port on the loopback.
        environment: Variables under which s3fs finds it, with credentials of nobody.
    """

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.port = int(self.process.stdout.readline())
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "NO_PROXY": "*",
        }

    def stop(self):
        """End the process."""
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(10)

    def _ask(self, method, path, body=b""):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body)
            answer = connection.getresponse()
            assert answer.status == 200, (path, answer.status)
            return answer.read()

    def bucket(self):
        """Return the URL of a new, empty bucket."""
        name = f"bucket{os.getpid()}-{next(_COUNTER)}"
        self._ask("PUT", f"/{name}")
        return f"s3://{name}"

    def say(self, **told):
        """Set ``latency`` (seconds added to every request) or ``faults``."""
        self._ask("POST", "/-/set", json.dumps(told).encode())

    @contextlib.contextmanager
    def slow(self, seconds):
        """Add a wait to every request."""
        self.say(latency=seconds)
        try:
            yield
        finally:
            self.say(latency=0.0)

    @contextlib.contextmanager
    def failing(self, *faults):
        """Answer some requests with errors."""
        self.say(faults=faults)
        try:
            yield
        finally:
            self.say(faults=[])

    @contextlib.contextmanager
    def counting(self):
        """Yield a `Requests` that holds what was asked when the block ends."""
        self._ask("POST", "/-/clear")
        requests = Requests()
        yield requests
        requests.log += json.loads(self._ask("GET", "/-/log"))


class Requests:
    """The requests of a block: each with begin and end in seconds, method, path and status."""

    def __init__(self):
        self.log = []

    def __len__(self):
        return len(self.log)

    @property
    def in_sequence(self):
        """Length of the longest chain of requests each of which began after the one before had ended."""
        length, free = 0, float("-inf")
        for began, ended, *_ in sorted(self.log, key=lambda request: request[1]):
            if began >= free:
                length, free = length + 1, ended
        return length

    def of(self, method):
        """Return the paths that were asked by one method."""
        return [path for _, _, asked, path, _ in self.log if asked == method]


@contextlib.contextmanager
def object_server():
    """Run the server with its credentials in the environment of this process."""
    server = ObjectServer()
    try:
        with mock.patch.dict(os.environ, server.environment):
            yield server
    finally:
        server.stop()
