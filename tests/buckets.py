"""A server that speaks the protocol of S3 on the loopback interface, and misbehaves on demand."""

import os
import socket
import threading
import time
import zlib
from collections import Counter
from contextlib import contextmanager
from unittest import mock

import fsspec
from moto.server import DomainDispatcherApplication, create_backend_app
from upath import UPath
from werkzeug.serving import WSGIRequestHandler, make_server

from cwt_dask.storage.paths import as_path, backend_of

READ_TIMEOUT = 1.0
# One layer that tries again is enough, and it must not take long.
CONFIGURATION = {"config_kwargs": {"read_timeout": READ_TIMEOUT, "retries": {"max_attempts": 0}}}
ANSWERS = {
    "throttled": ("503 Slow Down", b"<Error><Code>SlowDown</Code><Message>reduce your request rate</Message></Error>"),
    "forbidden": ("403 Forbidden", b"<Error><Code>InvalidAccessKeyId</Code><Message>no such key</Message></Error>"),
    # Of many objects that are to be removed: the answer as a whole is that all is well.
    "denied": ("200 OK", b"<DeleteResult><Error><Key>x</Key><Code>AccessDenied</Code></Error></DeleteResult>"),
}
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    # No proxy on the way answers for it.
    "NO_PROXY": "127.0.0.1",
}


class Misbehaving:
    """In front of the store: does to requests what `fault` returns for their method and path."""

    def __init__(self, store):
        self.store = store
        self.fault = lambda *_: None
        self.requests = Counter()

    def __call__(self, environ, start_response):
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests[method] += 1
        size = int(environ.get("CONTENT_LENGTH") or 0)
        match self.fault(method, path):
            case "throttled" | "forbidden" | "denied" as fault:
                environ["wsgi.input"].read(size)
                status, answer = ANSWERS[fault]
                start_response(status, [("Content-Type", "application/xml")])
                # After the answer to a HEAD the client would take it for the next one.
                return [] if method == "HEAD" else [answer]
            case "half":
                environ["wsgi.input"].read(size // 2)
                hang_up(environ)
            case "timed out":
                time.sleep(2 * READ_TIMEOUT)
                hang_up(environ)
            case "answer lost":
                b"".join(self.store(environ, lambda *_: None))
                hang_up(environ)
        return self.store(environ, start_response)


def hang_up(environ):
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError


class Once:
    """A fault that one in `every` requests of some methods meets, once each."""

    def __init__(self, fault, *methods, every=1):
        self.fault = fault
        self.methods = methods
        self.every = every
        self.met = set()

    def __call__(self, method, path):
        if method not in self.methods or (method, path) in self.met or zlib.crc32(path.encode()) % self.every:
            return None
        self.met.add((method, path))
        return self.fault


class Quiet(WSGIRequestHandler):
    def log(self, *_):
        pass


@contextmanager
def serving():
    """Serve, and have this process and those that it starts find it."""
    app = Misbehaving(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    with (
        mock.patch.dict(os.environ, ENVIRONMENT | {"AWS_ENDPOINT_URL": address}),
        mock.patch.dict(fsspec.config.conf, {"s3": CONFIGURATION}),
    ):
        yield app
    server.shutdown()
    thread.join()


def make_bucket(title):
    """An empty directory in a bucket of its own."""
    # Names of buckets are short, and of small letters.
    name = f"bucket-{zlib.crc32(title.encode()):08x}"
    directory = UPath(f"s3://{name}/data", use_listings_cache=False)
    directory.fs.mkdir(name)
    return directory


def copy(source, target):
    """Copy a directory, from and to a disk or a bucket."""
    source, target = as_path(source), as_path(target)
    for path in source.rglob("*"):
        if path.is_file():
            place = target / str(path).removeprefix(f"{source}/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())


def move(source, target):
    """Move a directory, from and to a disk or a bucket."""
    copy(source, target)
    backend_of(as_path(source)).remove_tree(as_path(source))
