"""An object store with the API of S3 on the loopback: moto's server as a process, behind a layer that a test commands.

``python tests/object_store/server.py`` prints its port and serves until its standard input ends, so that it never
outlives who started it. The layer waits before every request (`latency` seconds, as a network would add), keeps a
log of when each began and ended, and answers some with an error instead. moto looks for an object and then writes it
without holding anything, which S3 does as one step: the layer lets one request at a time reach it, after its wait.

What a test may tell it, as JSON under ``/-/``: ``POST set`` ``{"latency": s, "faults": [...]}``, ``GET log``,
``POST clear``. A fault is ``{"method", "match", "status", "code", "times", "lose"}``: requests of this method whose
path holds ``match`` get this status and S3 error code, ``times`` times; with ``lose`` they are served first, and only
their answer is lost.
"""

import io
import json
import os
import sys
import threading
import time


class Layer:
    """Waits, logs and fails before and after the application that it wraps."""

    def __init__(self, application):
        self.application, self.one_at_a_time, self.lock = application, threading.Lock(), threading.Lock()
        self.latency, self.faults, self.log = 0.0, [], []

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        if path.startswith("/-/"):
            return self.command(path[3:], environ, start_response)
        began = time.monotonic()
        # Read before the wait: what is written has to arrive, and what arrived must not be read from a closed socket.
        length = int(environ.get("CONTENT_LENGTH") or 0)
        if length:
            environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(length))
        time.sleep(self.latency)
        fault = self.fault(environ["REQUEST_METHOD"], path + "?" + environ.get("QUERY_STRING", ""))
        status = "?"
        try:
            if fault is not None and not fault.get("lose"):
                status = str(fault["status"])
                return self.refuse(fault, environ, start_response)
            answered = []

            def remember(line, headers, exc_info=None):
                answered.append((line, headers))

            with self.one_at_a_time:
                body = list(self.application(environ, remember))
            if fault is not None:
                status = str(fault["status"])
                return self.refuse(fault, environ, start_response)
            status = answered[0][0][:3]
            start_response(*answered[0])
            return body
        finally:
            with self.lock:
                self.log.append((began, time.monotonic(), environ["REQUEST_METHOD"], path, status))

    def fault(self, method, path):
        with self.lock:
            for fault in self.faults:
                if fault["method"] in (method, "*") and fault["match"] in path and fault.get("times", 1) != 0:
                    fault["times"] = fault.get("times", 1) - 1
                    return fault
        return None

    def refuse(self, fault, environ, start_response):
        body = (
            f"<Error><Code>{fault['code']}</Code><Message>{fault.get('message', 'Refused')}</Message></Error>".encode()
        )
        if environ["REQUEST_METHOD"] == "HEAD":
            body = b""
        start_response(
            f"{fault['status']} Refused", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
        )
        return [body]

    def command(self, name, environ, start_response):
        said = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        with self.lock:
            answer = self.log if name == "log" else {}
            if name == "set":
                vars(self).update(json.loads(said))
            if name == "clear":
                self.log = []
            body = json.dumps(answer).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]


def main():
    """Serve until standard input ends."""
    import logging

    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    layer = Layer(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, layer, threaded=True, request_handler=MotoRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
