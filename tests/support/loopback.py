"""Small web servers on loopback that stand where the API should."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Handles every method by ``handle_one``, over connections that are kept, and says nothing."""

    protocol_version = "HTTP/1.1"

    def handle_one(self):
        """Answer the request; for the servers' own handlers to say how."""
        raise NotImplementedError

    def do_GET(self):
        self.handle_one()

    do_PUT = do_DELETE = do_POST = do_GET  # noqa: N815 - as above

    def log_message(self, *_):
        """Say nothing."""


@contextmanager
def serving(handler, context=None, **attributes):
    """A server whose handlers find ``attributes`` at it; with a TLS context it speaks https."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    for name, value in attributes.items():
        setattr(server, name, value)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
