"""The kinds of fault under which the campaign runs: what is played, and what may be expected of a run then.

A kind is a share of requests that meets a fault, windows in which all of them do, or something that happens to the
process or to its state folder. Shares are such that a run of 20,000 subjects comes to an end in a minute.
"""

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from privacy_toolkit.sandbox.faults import FaultKind, Faults, Outage

READS = frozenset({"get_customer_inventory", "get_reserved_customers"})
SHARE = 0.02
#: No answer is waited for longer, in seconds (the profile that the campaign writes); faults that take time take longer.
PATIENCE = 1.0
ERASE, EXPORT, REFERRALS, EVENTS, PROFILES = "erase", "export", "referrals", "events", "profiles"
RESERVE, RELEASE, ASSIGN, HOLDERS = "reserve", "release", "assign", "holders"
JOBS = (ERASE, EXPORT, REFERRALS, EVENTS, PROFILES, RESERVE, RELEASE, ASSIGN, HOLDERS)


class FaultCase(msgspec.Struct, frozen=True):
    """One kind of fault.

    ``faults`` makes what the sandbox plays of the number of subjects. ``heals``: a run resumed after it has nothing
    open. ``happens`` names what is done to the process or its state folder: ``kills``, ``restored``, ``flipped``.
    ``spared`` are the jobs for which the kind is the API's own lie, which no client can tell: a job that looks nothing
    up has nothing but the API's word.
    """

    name: str
    what: str
    faults: Callable[[int], Faults] = lambda _: Faults()
    settings: dict = msgspec.field(default_factory=dict)
    heals: bool = True
    happens: str | None = None
    spared: frozenset = frozenset()

    @property
    def believed(self):
        """Whether the API's 204 is wrong in its own words."""
        return self.name in {"not_applied", "not_applied_emptied", "another_nameless"}


def _share(kind, what, share=SHARE, *, heals=True, spared=frozenset(), settings=None, **more):
    options = {"retry_after": 1, "slow_seconds": 1.5 * PATIENCE} | more
    return FaultCase(
        kind.value, what, lambda _: Faults(rates={kind: share}, **options), settings or {}, heals, spared=spared
    )


def _window(name, what, kind, *, requests=0, seconds=0.0, per_run=4, operations=frozenset()):
    """About so many windows in the first execution."""

    def faults(subjects):
        every = max(20, 2 * subjects // per_run)
        outage = Outage(kind=kind, every=every, requests=requests, seconds=seconds, operations=operations)
        return Faults(outage=outage)

    return FaultCase(name, what, faults)


def _rare(kind, what, times):
    """A kind that stops a run: so often in a run, not so often in a hundred."""
    return FaultCase(
        kind.value, what, lambda subjects: Faults(rates={kind: min(0.02, times / (2.3 * subjects))}, retry_after=1)
    )


#: All that may happen to requests at once, but for what the API says wrongly in its own words.
_EVERYTHING = (
    FaultKind.ERROR_500,
    FaultKind.BARE_503,
    FaultKind.MESSAGE_503,
    FaultKind.ERROR_504,
    FaultKind.HTML_200,
    FaultKind.REDIRECT_303,
    FaultKind.FOREIGN_404,
    FaultKind.FOREIGN_4XX,
    FaultKind.FOREIGN_200,
    FaultKind.FOREIGN_409,
    FaultKind.ANOTHER_NAMED,
    FaultKind.REPEATED,
    FaultKind.APPLIED_LATE,
    FaultKind.TRUNCATED,
    FaultKind.DROP_BEFORE,
    FaultKind.DROP_AFTER,
    FaultKind.DUPLICATE,
    FaultKind.DUPLICATE_LATE,
    FaultKind.EXCESS_BYTES,
    FaultKind.SHORT_LENGTH,
    FaultKind.GZIP,
    FaultKind.BIG_HEAD,
    FaultKind.INTERIM,
    FaultKind.TRAILERS,
    FaultKind.CLOSE,
    FaultKind.RESET_AFTER,
)

_UNLOOKED = frozenset({REFERRALS, EVENTS, PROFILES})

KINDS = (
    FaultCase("none", "no fault at all: what the others are compared with"),
    _share(FaultKind.ERROR_500, "500 in the API's words, not carried out"),
    _share(FaultKind.ERROR_503, "503 in the API's words with Retry-After, not carried out", 0.0005),
    _share(FaultKind.ERROR_429, "429 with Retry-After", 0.0005),
    _share(FaultKind.BARE_503, "503 without a body, carried out"),
    _share(FaultKind.MESSAGE_503, 'a gateway\'s 503 `{"message":"Service Unavailable"}`, carried out'),
    _share(FaultKind.RETRY_503, "a gateway's 503 with Retry-After, carried out", 0.0005),
    _share(FaultKind.OWN_503, "503 in the API's words, though carried out"),
    _share(FaultKind.ERROR_504, "504 of a gateway, carried out"),
    _share(FaultKind.ERROR_502_HTML, "502 with a proxy's page, carried out"),
    _share(FaultKind.HTML_200, "200 with a page, not carried out"),
    _share(FaultKind.REDIRECT_303, "303 to elsewhere"),
    _share(FaultKind.FOREIGN_404, "a gateway's 404 in 13 forms, not carried out"),
    _rare(FaultKind.FOREIGN_401, "a gateway's 401 or 403 in 4 forms, carried out", 4),
    _share(FaultKind.FOREIGN_409, "a gateway's 409 in 3 forms, carried out"),
    _share(FaultKind.FOREIGN_4XX, "a gateway's 400, 405, 410, 422, 451 … in 14 forms, carried out"),
    _share(FaultKind.FOREIGN_200, 'success of somebody else in 12 forms (`{}`, `{"profile":null}` …), not carried out'),
    _share(FaultKind.FALSE_404, "the API's own 404, wrong, once for each customer: a replica that lags"),
    _share(FaultKind.ANOTHER_NAMED, "the answer that names another customer, carried out"),
    _share(FaultKind.ANOTHER_NAMELESS, "another customer's 204 or 404, once each, not carried out", spared=_UNLOOKED),
    _share(FaultKind.DUPLICATE, "the answer twice in one piece"),
    _share(FaultKind.DUPLICATE_LATE, "the answer twice, the copy 3 ms later", copy_ms=3.0),
    _share(FaultKind.EXCESS_BYTES, "bytes after the answer, such as a 204 with a body"),
    _share(FaultKind.SHORT_LENGTH, "Content-Length less than the body"),
    _share(FaultKind.LONG_LENGTH, "Content-Length more than the body, and silence"),
    _share(
        FaultKind.NOT_APPLIED,
        "a success, and nothing is changed; erased profiles are answered with 404",
        heals=False,
        spared=_UNLOOKED,
        settings={"after_erase": "404"},
    ),
    replace(
        _share(FaultKind.NOT_APPLIED, "the same where erased profiles stay listed, empty", heals=False),
        name="not_applied_emptied",
        settings={"after_erase": "empty"},
        spared=frozenset(JOBS) - {ERASE},
    ),
    _share(FaultKind.APPLIED_LATE, "dropped, and carried out 300 ms later", late_ms=300.0),
    _share(FaultKind.REPEATED, "sent twice by a proxy, which passes on the second answer"),
    _share(FaultKind.STALE_READS, "for 400 ms after a change, reads show what was before", stale_ms=400.0),
    _share(FaultKind.STALE_READS, "the same for all changes", 1.0, stale_ms=100.0),
    _share(FaultKind.TRUNCATED, "half an answer, then the connection closes"),
    _share(FaultKind.DROP_BEFORE, "reset, not carried out"),
    _share(FaultKind.DROP_AFTER, "reset, carried out"),
    _share(FaultKind.SLOW, "the answer comes when nobody waits any more", 0.005),
    _share(FaultKind.SLOW_BODY, "the answer byte by byte, until nobody waits any more", 0.005),
    _share(FaultKind.HANG, "no answer at all, not carried out", 0.005),
    _share(FaultKind.NOT_HTTP, "another protocol's greeting instead of an answer"),
    _share(FaultKind.GZIP, "an encoding that nobody asked for"),
    _share(FaultKind.GZIP_BOMB, "80 kB that inflate to 80 MB", 0.0002),
    _share(FaultKind.BIG_HEAD, "headers of 70 kB"),
    _share(FaultKind.BIG_BODY, "a body of 80 MB", 0.0002),
    _share(FaultKind.INTERIM, "100, 102 and 103 before the answer"),
    _share(FaultKind.TRAILERS, "chunked with extensions and trailers, one of them Content-Length"),
    _share(FaultKind.CLOSE, "the connection closes after every answer", 1.0),
    _share(FaultKind.RESET_AFTER, "a reset right after the answer"),
    FaultCase(
        "closed_at_once",
        "one connection in five is closed as soon as it is made, the others after one answer in two",
        lambda _: Faults(rates={FaultKind.CLOSED_AT_ONCE: 0.2, FaultKind.CLOSE: 0.5}),
    ),
    _window("unreachable", "for half a second nobody listens, again and again", FaultKind.CLOSED_AT_ONCE, seconds=0.5),
    _window(
        "half_dead_foreign",
        "for a second every read meets a gateway's 404",
        FaultKind.FOREIGN_404,
        seconds=1.0,
        operations=READS,
    ),
    _window(
        "half_dead_own",
        "for a second everything meets a 404 in the API's words, credentials or not",
        FaultKind.FALSE_404,
        seconds=1.0,
    ),
    _window(
        "dead_foreign_200", "for a second everything meets somebody else's success", FaultKind.FOREIGN_200, seconds=1.0
    ),
    _window(
        "short_foreign",
        "again and again 30 requests meet a gateway's 404",
        FaultKind.FOREIGN_404,
        requests=30,
        per_run=40,
    ),
    _window(
        "short_own",
        "again and again 30 requests meet a 404 in the API's words, too short for a control to see",
        FaultKind.FALSE_404,
        requests=30,
        per_run=40,
    ),
    _window("short_silence", "again and again 100 requests get no answer", FaultKind.HANG, requests=100),
    FaultCase("rate_limit", "429 above 1,000 requests/s", lambda _: Faults(rate_limit=1000.0, retry_after=1)),
    FaultCase(
        "everything",
        "26 of the kinds above at once, one request in eight",
        lambda _: Faults(rates=dict.fromkeys(_EVERYTHING, 0.005), copy_ms=3.0),
    ),
    FaultCase("kills", "kill -9 of the process, five times", happens="kills"),
    FaultCase(
        "restored", "the state folder of an earlier moment is put back and resumed", heals=False, happens="restored"
    ),
    FaultCase("flipped", "bits of the run's journal flip between two executions", heals=False, happens="flipped"),
)


def _named():
    found = {}
    for case in KINDS:
        name = case.name if case.name not in found else f"{case.name}_all"
        found[name] = replace(case, name=name)
    return found


BY_NAME = _named()

#: By these a person could be handed what is another's.
FAULTS_OF_READS = {
    "another's": {FaultKind.ANOTHER_NAMELESS: 0.4},
    "foreign": {FaultKind.HTML_200: 0.1, FaultKind.FOREIGN_200: 0.1, FaultKind.DUPLICATE_LATE: 0.1},
    "false": {FaultKind.FALSE_404: 0.3, FaultKind.ERROR_500: 0.1},
}
