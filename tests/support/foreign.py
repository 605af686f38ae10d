"""Answers that are not the API's, or not about what was asked: what each is taken for.

``python -m tests.support.foreign`` writes the tables into docs/answers.md; a test holds the page to them.
"""

import gzip
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from privacy_toolkit.http.exchange import Reply
from privacy_toolkit.talonone import bodies
from privacy_toolkit.talonone.operations import OPERATIONS, Generation
from privacy_toolkit.talonone.responses import Answer, Asked, read_exchange
from tests.support.answers import coupon, profile, referral
from tests.support.documents import called

PAGE = Path(__file__).parents[2] / "docs" / "answers.md"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
WIDEST = 110

#: What was asked: the value in the path, and the body.
ASKED = {
    "create_coupon_reservation": ("CODE", bodies.CouponReservations(integration_ids=["c1"])),
    "delete_coupon_reservation": ("CODE", bodies.CouponReservations(integration_ids=["c1"])),
    "get_reserved_customers": ("CODE", None),
    "create_referral": (None, bodies.NewReferral(campaign_id=1, advocate_profile_integration_id="c1")),
    "create_referrals": (
        None,
        bodies.NewReferrals(campaign_id=1, advocate_profile_integration_ids=["c1", "c3"], usage_limit=1),
    ),
    "delete_customer_data": ("c1", None),
    "get_customer_inventory": ("c1", None),
    "get_loyalty_balances": ("c1", None),
    "get_loyalty_transactions": ("c1", None),
    "delete_loyalty_transactions": ("c1", bodies.DeletedTransactions(scope="AllSubledgers")),
    "get_card_transactions": ("K-1", None),
    "unlink_loyalty_card": ("K-1", bodies.CardHolder(integration_id="c1")),
    "get_customer_achievements": ("c1", None),
    "get_customer_session": ("s1", None),
    "track_event": (None, bodies.NewEvent(type="seen", session_id="s1", attributes={}, profile_id="c1")),
    "track_event_v2": (None, bodies.EventV2(type="seen", profile_id="c1")),
    "track_event_v3": (None, bodies.EventV3(type="seen", profile_id="c1", integration_id="e1")),
    "get_event_v3": ("e1", None),
    "update_customer_profile": ("c1", bodies.NewCustomerProfile(attributes={})),
    "update_customer_profile_v2": ("c1", bodies.CustomerProfileRequestV2(attributes={})),
    "update_customer_profiles": (
        None,
        bodies.ProfileUpdates(
            customer_profiles=[bodies.ProfileUpdate(integration_id="c1"), bodies.ProfileUpdate(integration_id="c3")]
        ),
    ),
    "update_customer_audiences": (
        None,
        bodies.AudienceActions(data=[bodies.AudienceAction(profile_integration_id="c1", audience_id=7, action="add")]),
    ),
    "update_customer_session": ("s1", bodies.NewCustomerSession(profile_id="c1")),
    "update_customer_session_v2": (
        "s1",
        bodies.IntegrationRequest(customer_session=bodies.NewCustomerSessionV2(profile_id="c1")),
    ),
}


@dataclass(frozen=True)
class Case:
    """One answer: ``who`` answers so, ``shown`` is how the page gives the body; without ``to`` it answers anything."""

    who: str
    status: int
    body: bytes = b""
    to: str | None = None
    retry_after: str | None = None
    shown: str | None = None

    def read(self, operation: str, generation: Generation = Generation.CURRENT) -> Answer:
        """What the toolkit takes it for as the answer to an operation."""
        reply = Reply(self.status, self.body, self.retry_after)
        return read_exchange(called(operation), reply, NOW, Asked(*ASKED[operation], generation))

    @property
    def operations(self) -> tuple[str, ...]:
        """The operations that it is tried as an answer to."""
        return tuple(OPERATIONS) if self.to is None else (self.to,)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


OWN = _json({"message": "no", "StatusCode": 404})
DEEP = b'{"message":"no","StatusCode":404,"x":' + b"[" * 100_000
PROFILE = profile("c1", {"Name": "x"})
INVENTORY = {"profile": PROFILE}
#: A V3 event as the API shows it.
REGISTERED = {"id": 1, "integrationId": "e1", "type": "seen", "profileId": "c1", "attributes": {}, "effects": []}
STATE_V2 = {"effects": [], "createdCoupons": [], "createdReferrals": []}
STATE_V1 = {
    "session": {"integrationId": "s1", "profileId": "c1"},
    "profile": PROFILE,
    "event": {"type": "seen", "profileId": "c1", "sessionId": "s1"},
}


def _without(body: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key != name}


_SPRING = {"timestamp": "2026-11-23T12:00:00Z", "status": 404, "error": "Not Found", "path": "/v1/customer_data/c1"}
_PROBLEM = {"type": "about:blank", "title": "Not Found", "status": 404, "detail": "No static resource."}
_FAULT = {"fault": {"faultstring": "Unable to identify proxy", "detail": {"errorcode": "messaging.NotFound"}}}
_ENVOY = b"upstream connect error or disconnect/reset before headers. reset reason: connection timeout"
_S3 = b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>"


def _html(title: str) -> bytes:
    return f"<html><head><title>{title}</title></head></html>".encode()


#: Refusals by somebody else. Each is tried as an answer to every operation.
REFUSALS = (
    Case("a proxy that says nothing", 404),
    Case("nginx", 404, _html("404 Not Found")),
    Case("Go's net/http, Traefik", 404, b"404 page not found\n"),
    Case("AWS S3, CloudFront", 404, _S3),
    Case("FastAPI, Starlette, Django REST", 404, _json({"detail": "Not Found"})),
    Case("Kong", 404, _json({"message": "no Route matched with those values"})),
    Case("Kong 3", 404, _json({"message": "no Route matched with those values", "request_id": "9f"})),
    Case("Spring Boot", 404, _json(_SPRING)),
    Case("Spring 6, ASP.NET (problem+json)", 404, _json(_PROBLEM)),
    Case("NestJS", 404, _json({"statusCode": 404, "message": "Cannot GET /", "error": "Not Found"})),
    Case("Azure API Management", 404, _json({"statusCode": 404, "message": "Resource not found"})),
    Case("GitHub and its like", 404, _json({"message": "Not Found", "documentation_url": "https://", "status": "404"})),
    Case("gRPC gateway", 404, _json({"code": 5, "message": "Not Found", "details": []})),
    Case("GraphQL", 404, _json({"errors": [{"message": "not found", "path": ["x"]}], "data": None})),
    Case("Apigee", 404, _json(_FAULT)),
    Case("Laravel", 404, _json({"message": "Not Found", "errors": {"id": ["unknown"]}})),
    Case("a Node.js service", 404, _json({"success": False, "message": "Not Found", "errors": []})),
    Case("errors without titles", 404, _json({"message": "no", "errors": [{"message": "no such customer"}]})),
    Case("errors that are texts", 404, _json({"message": "no", "errors": ["no such customer"]})),
    Case("an empty object", 404, b"{}"),
    Case("any object", 404, _json({"found": False})),
    Case("an array", 404, b"[]"),
    Case("null", 404, b"null"),
    Case("a text", 404, b'"Not Found"'),
    Case("a code that is not the status", 404, _json({"message": "no", "StatusCode": 400})),
    Case("a code as text", 404, _json({"message": "no", "StatusCode": "404"})),
    Case("a code with a fraction", 404, b'{"message":"no","StatusCode":404.0}'),
    Case("a code that is true", 404, _json({"message": "no", "StatusCode": True})),
    Case("no message", 404, _json({"StatusCode": 404})),
    Case("an empty message", 404, _json({"message": " ", "StatusCode": 404})),
    Case("a message that is null", 404, _json({"message": None, "StatusCode": 404})),
    Case("a message that is a number", 404, _json({"message": 404, "StatusCode": 404})),
    Case("names in other case", 404, _json({"message": "no", "statusCode": 404})),
    Case("names in other case", 404, _json({"Message": "no", "StatusCode": 404})),
    Case("wrapped in an envelope", 404, _json({"error": {"message": "no", "StatusCode": 404}})),
    Case("wrapped in an array", 404, b"[" + OWN + b"]"),
    Case("a name twice", 404, b'{"message":"no","StatusCode":500,"StatusCode":404}'),
    Case("a name twice, once escaped", 404, b'{"message":"no","StatusCode":404,"\\u0053tatusCode":404}'),
    Case("cut off", 404, OWN[:-4]),
    Case("two objects", 404, OWN + OWN),
    Case("a page after it", 404, OWN + b"<html>"),
    Case("with a byte order mark", 404, b"\xef\xbb\xbf" + OWN, shown='BOM, `{"message":"no","StatusCode":404}`'),
    Case("in UTF-16", 404, OWN.decode().encode("utf-16"), shown='UTF-16, `{"message":"no","StatusCode":404}`'),
    Case(
        "in Latin-1", 404, '{"message":"né","StatusCode":404}'.encode("latin-1"), shown='Latin-1, `{"message":"né" …`'
    ),
    Case("still compressed", 404, gzip.compress(OWN, mtime=0), shown="gzip bytes"),
    Case("not JSON: NaN", 404, b'{"message":"no","StatusCode":NaN}'),
    Case("nested without end", 404, DEEP, shown='`{"message":"no","StatusCode":404,"x":[[[[…`, 100,000 deep'),
    Case("a cache", 404, _json(INVENTORY), shown="the inventory of `c1`"),
    Case("AWS load balancer", 400, _html("400 Bad Request")),
    Case("a proxy that says nothing", 400),
    Case("Envoy", 400, b"Bad Request"),
    Case("AWS API Gateway", 400, _json({"message": "Invalid request body"})),
    Case("a proxy that says nothing", 401),
    Case("Kong", 401, _json({"message": "No API key found in request"})),
    Case("AWS API Gateway", 401, _json({"message": "Unauthorized"})),
    Case(
        "Spring Security",
        401,
        _json(_SPRING | {"status": 401, "error": "Unauthorized"}),
        shown='`{"status":401,"error":"Unauthorized",…}`',
    ),
    Case("AWS API Gateway", 403, _json({"Message": "User is not authorized to access this resource"})),
    Case("Cloudflare", 403, _html("Attention Required! | Cloudflare")),
    Case("nobody's own word", 405, _json({"message": "no", "StatusCode": 405})),
    Case("a proxy", 407, _html("407 Proxy Authentication Required")),
    Case("nobody's own word", 408, _json({"message": "no", "StatusCode": 408})),
    Case("a proxy that says nothing", 409),
    Case("any object", 409, _json({"message": "Conflict"})),
    Case("nobody's own word", 410, _json({"message": "no", "StatusCode": 410})),
    Case("nginx", 413, _html("413 Request Entity Too Large")),
    Case("nobody's own word", 422, _json({"message": "no", "StatusCode": 422})),
    Case("FastAPI", 422, _json({"detail": [{"loc": ["path"], "msg": "field required"}]})),
    Case("a proxy that says nothing", 429, retry_after="7"),
    Case("Kong", 429, _json({"message": "API rate limit exceeded"})),
    Case("Cloudflare", 429, b"error code: 1015"),
    Case("nobody's own word", 451, _json({"message": "no", "StatusCode": 451})),
    Case("nginx", 499),
    Case("nobody's own word", 500, _json({"message": "no", "StatusCode": 500})),
    Case("nginx", 502, _html("502 Bad Gateway")),
    Case("a proxy that says nothing", 503),
    Case("a proxy that asks to wait", 503, retry_after="5"),
    Case("AWS API Gateway", 503, _json({"message": "Service Unavailable"})),
    Case("AWS API Gateway, asking to wait", 503, _json({"message": "Service Unavailable"}), retry_after="5"),
    Case("Kong", 503, _json({"message": "name resolution failed"})),
    Case("Envoy", 503, _ENVOY),
    Case("nginx", 504, _html("504 Gateway Time-out")),
    Case("Cloudflare", 520, b"error code: 520"),
    Case("a login page", 302),
    Case("a cache", 304),
    Case("another success", 202, b"{}"),
    Case("another success", 206, _json(INVENTORY)[:40]),
    Case("several", 207, b"<multistatus/>"),
)


def _inventory(who: str, body: bytes, *, status: int = 200, shown: str | None = None) -> Case:
    return Case(who, status, body, "get_customer_inventory", shown=shown)


_DOUBLE = b'{"profile":' + _json(profile("c2")) + b"," + _json(INVENTORY)[1:]

_EMPTY = _json({"profile": profile("c1")})
_TWICE = _EMPTY.replace(b'"attributes":{}', b'"attributes":{"a":1},"attributes":{}')
_NULLED = _EMPTY.replace(b'"attributes":{}', b'"attributes":{"a":1,"a":null}')
_TWO_IDS = _json(INVENTORY).replace(b'"integrationId"', b'"integrationId":"c2","integrationId"')
_TWO_HOLDERS = _json({"totalResultSize": 1, "data": [PROFILE]}).replace(
    b'"integrationId"', b'"integrationId":"c2","integrationId"'
)

#: What looks like a success and is none of the API's.
SUCCESSES = (
    _inventory("a login page", _html("Sign in")),
    _inventory("nothing", b""),
    _inventory("an empty object", b"{}"),
    _inventory("no profile", _json({"profile": None})),
    _inventory("an empty profile", _json({"profile": {}})),
    _inventory("a profile of another API", _json({"profile": {"id": "c1", "name": "x", "email": "x@example.org"}})),
    _inventory("a name and nothing else", _json({"profile": {"integrationId": "c1"}})),
    *(
        _inventory(
            f"a profile without `{name}`", _json({"profile": _without(PROFILE, name)}), shown="all else is there"
        )
        for name in (
            "integrationId",
            "created",
            "attributes",
            "accountId",
            "closedSessions",
            "totalSales",
            "lastActivity",
        )
    ),
    _inventory(
        "an id that is a number", _json({"profile": PROFILE | {"integrationId": 1}}), shown='`"integrationId":1`'
    ),
    _inventory(
        "an id that is null", _json({"profile": PROFILE | {"integrationId": None}}), shown='`"integrationId":null`'
    ),
    _inventory("an error, no profile", _json({"error": "not found", "profile": None})),
    _inventory(
        "an error and a profile", _json({"error": "timeout"} | INVENTORY), shown='`{"error":"timeout","profile":{…}}`'
    ),
    _inventory(
        "GraphQL",
        _json({"errors": [{"message": "x"}]} | INVENTORY),
        shown='`{"errors":[{"message":"x"}],"profile":{…}}`',
    ),
    _inventory("the API's refusal, as a success", OWN),
    _inventory("an envelope", _json({"data": INVENTORY}), shown='`{"data":{"profile":{…}}}`'),
    _inventory("names in other case", _json({"Profile": PROFILE}), shown='`{"Profile":{…}}`'),
    _inventory(
        "coupons of others, no profile",
        _json({"coupons": [coupon("X", recipientIntegrationId="c2")]}),
        shown='`{"coupons":[{…}]}`',
    ),
    _inventory("two profiles", _DOUBLE, shown='`{"profile":{… "c2" …},"profile":{… "c1" …}}`'),
    _inventory("attributes, and then none", _TWICE, shown='`{"profile":{… "attributes":{"a":1},"attributes":{} …}}`'),
    _inventory("an attribute, and then null", _NULLED, shown='`{"profile":{… "attributes":{"a":1,"a":null} …}}`'),
    _inventory("two ids", _TWO_IDS, shown='`{"profile":{"integrationId":"c2","integrationId":"c1" …}}`'),
    _inventory("cut off", _json(INVENTORY)[:-2], shown='`{"profile":{… "c1" …`'),
    _inventory("with a byte order mark", b"\xef\xbb\xbf" + _json(INVENTORY), shown="BOM, the inventory of `c1`"),
    _inventory("in UTF-16", _json(INVENTORY).decode().encode("utf-16"), shown="UTF-16, the inventory of `c1`"),
    _inventory(
        "not JSON: NaN", _json(INVENTORY).replace(b'"totalSales":0', b'"totalSales":NaN'), shown='`"totalSales":NaN`'
    ),
    _inventory("nested without end", b'{"profile":' + b"[" * 100_000, shown='`{"profile":[[[[…`, 100,000 deep'),
    _inventory("another success", _json(INVENTORY), status=201, shown="the inventory of `c1`"),
    _inventory("another success", b"", status=204),
    *(
        Case(who, 200, _json(body), "get_reserved_customers")
        for who, body in (
            ("an empty list without its length", {"data": []}),
            ("a length without a list", {"totalResultSize": 0}),
            ("a list shorter than it says", {"totalResultSize": 2, "data": []}),
            ("null for a list that is not empty", {"totalResultSize": 1, "data": None}),
            ("a length as text", {"totalResultSize": "0", "data": []}),
            ("a length that is null", {"totalResultSize": None, "data": []}),
            ("another list", {"items": [], "total": 0}),
            ("holders without what is required", {"totalResultSize": 1, "data": [{"integrationId": "c1"}]}),
            ("a page of an error", {"totalResultSize": 0, "data": [], "error": "timeout"}),
        )
    ),
    Case(
        "a holder with two ids",
        200,
        _TWO_HOLDERS,
        "get_reserved_customers",
        shown='`"data":[{"integrationId":"c2","integrationId":"c1" …}]`',
    ),
    Case(
        "a list longer than it says",
        200,
        _json({"totalResultSize": 0, "data": [PROFILE]}),
        "get_reserved_customers",
        shown='`{"totalResultSize":0,"data":[{…}]}`',
    ),
    *(
        Case(who, status, body, operation)
        for operation in ("delete_customer_data", "delete_coupon_reservation")
        for who, status, body in (
            ("another success", 200, b""),
            ("another success", 200, b"{}"),
            ("accepted for later", 202, b""),
            ("a body where none belongs", 204, b"{}"),
        )
    ),
    Case("another success", 200, _json(coupon("CODE")), "create_coupon_reservation", shown="the coupon `CODE`"),
    Case("a coupon without what is required", 201, _json({"value": "CODE"}), "create_coupon_reservation"),
    Case("a coupon without its value", 201, _json({"id": 1}), "create_coupon_reservation"),
    Case("an empty object", 201, b"{}", "create_coupon_reservation"),
    Case("a login page", 201, _html("Sign in"), "create_coupon_reservation"),
    Case("a code and nothing else", 201, _json({"code": "REF-1"}), "create_referral"),
    Case(
        "a referral without its code",
        201,
        _json(_without(referral("c1"), "code")),
        "create_referral",
        shown="all else is there",
    ),
    Case(
        "a referral without its advocate",
        201,
        _json(_without(referral("c1"), "advocateProfileIntegrationId")),
        "create_referral",
        shown="all else is there",
    ),
    Case(
        "a referral and an error",
        201,
        _json(referral("c1") | {"message": "no"}),
        "create_referral",
        shown='`{…,"message":"no"}`',
    ),
    Case("another success", 200, _json(referral("c1")), "create_referral", shown="the referral of `c1`"),
    *(
        Case(who, OPERATIONS[name].success, body, name)
        for name in ("create_referrals", "update_customer_profiles")
        for who, body in (
            ("an empty object", b"{}"),
            ("a login page", _html("Sign in")),
            ("nothing", b""),
        )
    ),
    Case("silent, though asked not to be", 204, b"", "create_referrals"),
    Case("silent, though asked not to be", 204, b"", "update_customer_profiles"),
    Case("nobody", 201, _json({"totalResultSize": 0, "data": []}), "create_referrals"),
    Case("nobody", 200, _json({"integrationStates": []}), "update_customer_profiles"),
    Case(
        "a list shorter than it says",
        201,
        _json({"totalResultSize": 2, "data": [referral("c1")]}),
        "create_referrals",
        shown='`{"totalResultSize":2,"data":[{… "c1" …}]}`',
    ),
    Case("a body where none belongs", 204, b"{}", "update_customer_audiences"),
    Case("another success", 200, b"{}", "update_customer_audiences"),
    *(
        Case(f"no `{part}`", OPERATIONS[name].success, _json(_without(STATE_V1, part)), name, shown="all else is there")
        for name, part in (
            ("track_event", "session"),
            ("track_event", "event"),
            ("update_customer_profile", "profile"),
            ("update_customer_session", "event"),
        )
    ),
    *(
        Case(
            f"`{part}` is null",
            OPERATIONS[name].success,
            _json(STATE_V1 | {part: None}),
            name,
            shown="all else is there",
        )
        for name, part in (
            ("track_event", "event"),
            ("update_customer_profile", "profile"),
            ("update_customer_session", "session"),
        )
    ),
    *(
        Case(who, 200, _json(body), name)
        for name in ("track_event_v2", "track_event_v3", "update_customer_profile_v2", "update_customer_session_v2")
        for who, body in (
            ("an empty object", {}),
            ("effects and nothing else", {"effects": []}),
            ("an error", STATE_V2 | {"error": "timeout"}),
        )
    ),
    Case(
        "the answer of 2020",
        200,
        _json({"customerProfile": PROFILE}),
        "update_customer_profile_v2",
        shown='`{"customerProfile":{… "c1" …}}`',
    ),
    Case("silent, though asked not to be", 204, b"", "track_event_v2"),
    Case("silent, though asked not to be", 204, b"", "track_event_v3"),
    Case("an empty object", 200, b"{}", "get_event_v3"),
    Case("an event without its id", 200, _json({"type": "seen", "profileId": "c1"}), "get_event_v3"),
    Case("an event without its type", 200, _json({"integrationId": "e1", "profileId": "c1"}), "get_event_v3"),
    Case("an event and an error", 200, _json(REGISTERED | {"error": "timeout"}), "get_event_v3"),
    Case("a login page", 200, _html("Sign in"), "get_event_v3"),
    *(
        Case(who, 200, _json(body), name)
        for name in ("get_loyalty_transactions", "get_card_transactions")
        for who, body in (
            ("an empty list without its end", {"data": []}),
            ("an end without a list", {"hasMore": False}),
            ("more, and nothing of it", {"hasMore": True, "data": []}),
            ("more, as text", {"hasMore": "false", "data": []}),
            ("a list of another kind", {"totalResultSize": 0, "data": []}),
            ("a transaction without its UUID", {"hasMore": False, "data": [{"programId": 1}]}),
            ("a transaction without its program", {"hasMore": False, "data": [{"transactionUUID": "u1"}]}),
            ("a page of an error", {"hasMore": False, "data": [], "error": "timeout"}),
        )
    ),
    Case("an empty object", 200, b"{}", "get_loyalty_balances"),
    Case("no balance", 200, _json({"subledgerBalances": {}}), "get_loyalty_balances"),
    Case("a balance that is null", 200, _json({"balance": None}), "get_loyalty_balances"),
    Case("a login page", 200, _html("Sign in"), "get_loyalty_balances"),
    Case("another success", 200, b"{}", "delete_loyalty_transactions"),
    Case("a body where none belongs", 204, b"{}", "delete_loyalty_transactions"),
    Case("an empty object", 200, b"{}", "unlink_loyalty_card"),
    Case("a card without its identifier", 200, _json({"id": 1, "profiles": []}), "unlink_loyalty_card"),
    Case("another success", 204, b"", "unlink_loyalty_card"),
    Case("an empty list without its length", 200, _json({"data": []}), "get_customer_achievements"),
    Case("a list shorter than it says", 200, _json({"totalResultSize": 2, "data": []}), "get_customer_achievements"),
    Case("an empty object", 200, b"{}", "get_customer_session"),
    Case("a session that is null", 200, _json({"customerSession": None}), "get_customer_session"),
    Case("a session without its id", 200, _json({"customerSession": {"profileId": "c1"}}), "get_customer_session"),
)


def _about(to: str, body: dict[str, Any], shown: str, who: str = "a copy of somebody else's answer") -> Case:
    return Case(who, OPERATIONS[to].success, _json(body), to, shown=shown)


def _entry(program: int = 1, card: str | None = None) -> dict[str, Any]:
    entry = {"transactionUUID": "u1", "programId": program, "amount": 5}
    return entry if card is None else entry | {"cardIdentifier": card}


def _ledger(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"hasMore": False, "data": list(entries)}


def _v1(**parts: Any) -> dict[str, Any]:
    return {name: STATE_V1[name] | parts.get(name, {}) for name in STATE_V1}


def _made(*advocates: str, campaign: int = 1, **more: Any) -> dict[str, Any]:
    made = [referral(one, campaign, **more) for one in advocates]
    return {"totalResultSize": len(made), "data": made}


def _updated(*customers: str) -> dict[str, Any]:
    return {"integrationStates": [{"customerProfile": profile(one)} for one in customers]}


#: In the API's own form, and about somebody or something else.
OTHERS = (
    _about("get_customer_inventory", {"profile": profile("c2")}, "the inventory of `c2`"),
    _about("get_customer_inventory", {"profile": profile("C1")}, "the inventory of `C1`", "an id in other case"),
    _about("get_customer_inventory", {"profile": profile("c1 ")}, "the inventory of `c1 `", "an id with a blank"),
    *(
        _about("get_customer_inventory", INVENTORY | more, shown, "entries of somebody else")
        for more, shown in (
            ({"coupons": [coupon("X", recipientIntegrationId="c2")]}, "of `c1`, with a coupon for `c2`"),
            ({"referrals": [referral("c2")]}, "of `c1`, with a referral of `c2`"),
            ({"giveaways": [{"id": 1, "profileIntegrationId": "c2"}]}, "of `c1`, with a giveaway for `c2`"),
            ({"loyalty": {"cards": [{"profiles": [{"integrationId": "c2"}]}]}}, "of `c1`, with a card of `c2`"),
        )
    ),
    _about("create_coupon_reservation", coupon("EDOC"), "the coupon `EDOC`"),
    _about("create_coupon_reservation", coupon("code"), "the coupon `code`", "a code in other case"),
    _about("create_referral", referral("c2"), "a referral of `c2`"),
    _about("create_referral", referral("c1", campaign=2), "a referral of `c1` in campaign 2"),
    _about("create_referral", referral("c1", friendProfileIntegrationId="c3"), "a referral of `c1` for `c3`"),
    _about("create_referrals", _made("c1", "c2"), "referrals of `c1` and `c2`", "an answer about others, too"),
    _about("create_referrals", _made("c1", "c1"), "two referrals of `c1`", "an answer that says it twice"),
    _about("create_referrals", _made("c1", campaign=2), "a referral of `c1` in campaign 2"),
    _about("create_referrals", _made("c1", friendProfileIntegrationId="c3"), "a referral of `c1` for `c3`"),
    _about("track_event", _v1(event={"type": "bought"}), "an event `bought`"),
    _about("track_event", _v1(event={"profileId": "c2"}), "an event of `c2`"),
    _about("track_event", _v1(event={"sessionId": "s2"}), "an event of session `s2`"),
    _about("track_event", _v1(session={"integrationId": "s2"}), "a state of session `s2`"),
    _about("track_event", _v1(profile={"integrationId": "c2"}), "a state of `c2`"),
    _about("track_event_v2", STATE_V2 | {"customerProfile": profile("c2")}, "effects for `c2`"),
    *(
        _about(
            "track_event_v3", STATE_V2 | {"advancedEvent": REGISTERED | {key: value}}, f"an event with {key} `{value}`"
        )
        for key, value in (("integrationId", "e2"), ("type", "bought"), ("profileId", "c2"))
    ),
    _about("track_event_v3", STATE_V2 | {"customerProfile": profile("c2")}, "effects for `c2`"),
    _about("get_event_v3", REGISTERED | {"integrationId": "e2"}, "the event `e2`"),
    _about("get_event_v3", REGISTERED | {"integrationId": "E1"}, "the event `E1`", "an id in other case"),
    _about("track_event_v2", STATE_V2 | {"event": {"type": "bought", "profileId": "c1"}}, "an event `bought`"),
    _about("track_event_v2", STATE_V2 | {"event": {"type": "seen", "profileId": "c2"}}, "an event of `c2`"),
    _about(
        "track_event_v2", STATE_V2 | {"event": {"type": "seen", "profileId": 1}}, "an event of `1`", "an id as number"
    ),
    _about("update_customer_profile", _v1(profile={"integrationId": "c2"}), "a state of `c2`"),
    _about("update_customer_profile", _v1(event={"profileId": "c2"}), "a state of `c1`, its event of `c2`"),
    _about("update_customer_profile_v2", STATE_V2 | {"customerProfile": profile("c2")}, "effects for `c2`"),
    _about("update_customer_profile_v2", STATE_V2 | {"event": {"profileId": "c2"}}, "an event of `c2`"),
    _about(
        "update_customer_profiles", _updated("c1", "c2"), "profiles of `c1` and `c2`", "an answer about others, too"
    ),
    _about("update_customer_profiles", _updated("c1", "c1"), "two of `c1`", "an answer that says it twice"),
    _about("update_customer_session", _v1(session={"integrationId": "s2"}), "a state of session `s2`"),
    _about("update_customer_session", _v1(session={"profileId": "c2"}), "a session of `c2`"),
    _about("update_customer_session_v2", STATE_V2 | {"customerSession": {"integrationId": "s2"}}, "session `s2`"),
    _about("update_customer_session_v2", STATE_V2 | {"customerProfile": profile("c2")}, "effects for `c2`"),
    _about("get_loyalty_transactions", _ledger(_entry(program=2)), "a transaction in program 2"),
    _about("get_card_transactions", _ledger(_entry(program=2, card="K-1")), "a transaction in program 2"),
    _about("get_card_transactions", _ledger(_entry(card="K-2")), "a transaction of the card `K-2`"),
    _about("unlink_loyalty_card", {"identifier": "K-2", "profiles": []}, "the card `K-2`"),
    _about("unlink_loyalty_card", {"identifier": "K-1", "programID": 2}, "the card `K-1` of program 2"),
    _about("get_customer_session", {"customerSession": {"integrationId": "s2"}}, "session `s2`"),
)

_TITLED = {"message": "The submitted data was invalid", "errors": [{"title": "Invalid", "source": {"pointer": "/"}}]}


def _own(to: str, status: int, who: str = "the API") -> Case:
    return Case(who, status, _json({"message": "no", "StatusCode": status}), to)


#: For comparison: what does count.
COUNTING = (
    Case("the API", 200, _json(INVENTORY), "get_customer_inventory", shown="the inventory of `c1`"),
    Case(
        "the API, after an erasure",
        200,
        _json({"profile": profile("c1")}),
        "get_customer_inventory",
        shown="an empty profile of `c1`",
    ),
    _own("get_customer_inventory", 404),
    Case("the API", 404, _json(_TITLED), "get_customer_inventory"),
    _own("get_customer_inventory", 401),
    _own("get_customer_inventory", 429),
    _own("get_customer_inventory", 503),
    _own("get_customer_inventory", 400, "the API, as no document has it"),
    Case("the API", 204, b"", "delete_customer_data"),
    _own("delete_customer_data", 404),
    _own("delete_customer_data", 409),
    _own("delete_customer_data", 503),
    _own("delete_customer_data", 400, "the API, as no document has it"),
    Case("the API", 200, _json({"totalResultSize": 0, "data": []}), "get_reserved_customers"),
    Case("the API", 200, _json({"totalResultSize": 0, "data": None}), "get_reserved_customers"),
    _own("get_reserved_customers", 400),
    Case("the API", 201, _json(coupon("CODE")), "create_coupon_reservation", shown="the coupon `CODE`"),
    _own("create_coupon_reservation", 404),
    Case("the API", 204, b"", "delete_coupon_reservation"),
    Case("the API", 201, _json(referral("c1")), "create_referral", shown="the referral of `c1`"),
    Case("the API", 400, _json(_TITLED), "create_referral"),
    _own("create_referral", 429),
    _own("create_referral", 503, "the API; the call can't be looked up"),
    _own("create_referral", 409, "the API, as no document has it"),
    _own("create_referral", 404, "the API, as no document has it"),
    Case("the API", 201, _json(_made("c1", "c3")), "create_referrals", shown="the referrals of `c1` and `c3`"),
    Case("the API", 201, _json(_made("c3")), "create_referrals", shown="the referral of `c3`; of `c1` it says nothing"),
    _own("create_referrals", 400, "the API, of nobody in particular"),
    _own("create_referrals", 404, "the API, as no document has it"),
    Case("the API", 201, _json(STATE_V1), "track_event", shown="an event `seen` of `c1` in `s1`"),
    _own("track_event", 409),
    Case("the API", 200, _json(STATE_V2 | {"customerProfile": PROFILE}), "track_event_v2", shown="effects for `c1`"),
    Case("the API", 200, _json(STATE_V2), "track_event_v2", shown="effects that name nobody"),
    _own("track_event_v2", 503, "the API; the call can't be looked up"),
    Case(
        "the API",
        200,
        _json(STATE_V2 | {"advancedEvent": REGISTERED}),
        "track_event_v3",
        shown="effects, and the event",
    ),
    Case("the API", 200, _json(STATE_V2), "track_event_v3", shown="effects that name nobody"),
    Case("the API", 200, _json(REGISTERED), "get_event_v3", shown="the event `e1`"),
    Case("the API", 200, _json(STATE_V1), "update_customer_profile", shown="a state of `c1`"),
    _own("update_customer_profile", 400),
    Case("the API", 200, _json(STATE_V2), "update_customer_profile_v2", shown="effects that name nobody"),
    Case("the API", 200, _json(_updated("c3", "c1")), "update_customer_profiles", shown="profiles of `c3` and `c1`"),
    _own("update_customer_profiles", 400, "the API, of nobody in particular"),
    Case("the API", 204, b"", "update_customer_audiences"),
    _own("update_customer_audiences", 404, "the API, of nobody in particular"),
    Case("the API", 200, _json(STATE_V1), "update_customer_session", shown="a state of session `s1`"),
    Case(
        "the API",
        200,
        _json(STATE_V2 | {"customerSession": {"integrationId": "s1"}}),
        "update_customer_session_v2",
        shown="session `s1`",
    ),
    _own("update_customer_session_v2", 503),
    Case("the API", 200, _json({"balance": {"activePoints": 5}}), "get_loyalty_balances"),
    _own("get_loyalty_balances", 404),
    Case("the API", 200, _json(_ledger(_entry())), "get_loyalty_transactions", shown="transactions in program 1"),
    Case("the API", 200, _json(_ledger()), "get_loyalty_transactions"),
    _own("get_loyalty_transactions", 404),
    Case("the API", 204, b"", "delete_loyalty_transactions"),
    _own("delete_loyalty_transactions", 400),
    _own("delete_loyalty_transactions", 404),
    _own("delete_loyalty_transactions", 503),
    Case("the API", 200, _json(_ledger(_entry(card="K-1"))), "get_card_transactions", shown="transactions of `K-1`"),
    Case("the API", 200, _json({"identifier": "K-1", "profiles": []}), "unlink_loyalty_card"),
    _own("unlink_loyalty_card", 404),
    Case("the API", 200, _json({"totalResultSize": 0, "data": []}), "get_customer_achievements"),
    Case("the API", 200, _json({"customerSession": {"integrationId": "s1"}}), "get_customer_session"),
    _own("get_customer_session", 400),
    _own("get_customer_session", 404, "the API, as no document has it"),
)

TABLES = {"refusals": REFUSALS, "successes": SUCCESSES, "others": OTHERS, "counting": COUNTING}


def _shown(case: Case) -> str:
    if case.shown is not None:
        return case.shown
    text = case.body.decode().strip()
    if case.retry_after is not None:
        return f"`{text}`, `Retry-After: {case.retry_after}`" if text else f"none, `Retry-After: {case.retry_after}`"
    text = text if len(text) <= WIDEST else text[:WIDEST] + " …"
    return f"`{text}`" if text else "none"


def _taken_for(answer: Answer) -> str:
    named = ", named" if answer.named else ""
    return f"{answer.finding}{named}" + (f": `{answer.reason}`" if answer.reason else "")


def table(cases: tuple[Case, ...]) -> str:
    """The rows of a table of the page; what each is taken for is read, not written by hand."""
    lines = ["| status | body | who answers so | to | taken for | of 2020 |", "|---|---|---|---|---|---|"]
    for case in cases:
        operation = case.to or "get_customer_inventory"
        current, seed = case.read(operation), case.read(operation, Generation.SEED)
        to = OPERATIONS[operation].operation_id if case.to else "any"
        has_2020 = Generation.SEED in OPERATIONS[operation].generations
        older = (
            "no such call"
            if not has_2020
            else "the same"
            if _taken_for(seed) == _taken_for(current)
            else _taken_for(seed)
        )
        cells = (str(case.status), _shown(case), case.who, to, _taken_for(current), older)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def page(text: str) -> str:
    """The page with its tables as they are now."""
    for name, cases in TABLES.items():
        begin, end = f"<!-- {name} -->\n\n", f"\n\n<!-- end of {name} -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = before + begin + table(cases) + end + after
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
