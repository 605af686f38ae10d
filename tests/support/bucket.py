"""A small server that speaks S3 over loopback, with faults: as much of it as the toolkit's object storage needs.

Path-style addresses, PUT (with ``If-None-Match: *``), GET, HEAD, DELETE, DeleteObjects and ListObjectsV2, each signed;
nobody checks by whom, but who signed is kept. The bucket ``full`` takes nothing.
"""

import hashlib
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

from tests.support.loopback import Handler, serving

KEY, SECRET = "AKIALOOPBACK", "not-for-anybody"


@dataclass
class Kept:
    """What is in the buckets, who asked, and what goes wrong next.

    ``faults`` are names taken one for each PUT of an object: ``lost`` (done, and no answer), ``refused`` (403),
    ``stalled`` (done only once ``go_on`` is set), or "" for none.
    """

    objects: dict[str, tuple[bytes, datetime]] = field(default_factory=dict)
    signed_by: set[str] = field(default_factory=set)
    asked: list[tuple[str, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)
    stalled: threading.Event = field(default_factory=threading.Event)
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)


class _S3(Handler):
    do_HEAD = Handler.do_GET  # noqa: N815 - the name that the library calls

    def handle_one(self):
        kept, url = self.server.kept, urlsplit(self.path)
        name, query = unquote(url.path).lstrip("/"), parse_qs(url.query)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        signed = re.search(r"Credential=([^/]+)/", self.headers.get("Authorization", ""))
        kept.signed_by.add(signed[1] if signed else "")
        kept.asked.append((self.command, name))
        if self.command == "PUT":
            self._put(kept, name, body)
        elif self.command == "DELETE":
            kept.objects.pop(name, None)
            self._answer(204)
        elif self.command == "POST" and "delete" in url.query:
            gone = [f"{name.rstrip('/')}/{unescape(key)}" for key in re.findall("<Key>([^<]+)</Key>", body.decode())]
            for one in gone:
                kept.objects.pop(one, None)
            told = "".join(f"<Deleted><Key>{escape(one.partition('/')[2])}</Key></Deleted>" for one in gone)
            self._answer(200, f"<DeleteResult>{told}</DeleteResult>".encode())
        elif query.get("list-type") == ["2"]:
            self._list(kept, name.rstrip("/"), query.get("prefix", [""])[0])
        elif name in kept.objects:
            content, modified = kept.objects[name]
            etag = f'"{hashlib.md5(content).hexdigest()}"'  # noqa: S324 - what S3 has
            self._answer(200, content, ETag=etag, **{"Last-Modified": format_datetime(modified, usegmt=True)})
        else:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def _put(self, kept, name, body):
        fault = kept.faults.pop(0) if kept.faults and not name.endswith("-clock") else ""
        if fault == "refused" or name.startswith("full/"):
            self._answer(403, b"<Error><Code>AccessDenied</Code></Error>")
            return
        if fault == "stalled":
            kept.stalled.set()
            kept.go_on.wait()
        if self.headers.get("If-None-Match") == "*" and name in kept.objects:
            self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
            return
        kept.objects[name] = body, kept.now
        if fault == "lost":
            self.close_connection = True
            return
        self._answer(200, ETag=f'"{hashlib.md5(body).hexdigest()}"')  # noqa: S324 - what S3 has

    def _list(self, kept, bucket, prefix):
        found = "".join(
            f"<Contents><Key>{escape(name.partition('/')[2])}</Key><Size>{len(content)}</Size>"
            f"<LastModified>{modified:%Y-%m-%dT%H:%M:%S.000Z}</LastModified><ETag>&quot;x&quot;</ETag></Contents>"
            for name, (content, modified) in sorted(kept.objects.items())
            if name.startswith(f"{bucket}/{prefix}")
        )
        text = f"<ListBucketResult><Name>{bucket}</Name><IsTruncated>false</IsTruncated>{found}</ListBucketResult>"
        self._answer(200, text.encode(), **{"Content-Type": "application/xml"})

    def _answer(self, status, body=b"", **headers):
        self.send_response(status)
        for header, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def storage(environment):
    """Start the server, and set in ``environment`` what leads to it; what it keeps."""
    kept = Kept()
    with serving(_S3, kept=kept) as server:
        environment |= {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "eu-central-1",
        }
        try:
            yield kept
        finally:
            kept.go_on.set()
