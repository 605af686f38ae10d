"""Any request that the vendor's document makes, against the sandbox: what comes back has to be what the document says.

schemathesis makes the requests from the document, valid ones and broken ones, and judges the answers.
``python -m tests.support.against_document --examples 500 --seed 7`` (a part of ``make fuzz``) makes more of them than
the tests do; the same seed makes the same.
"""

import argparse
import http.client
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.failures import FailureGroup

from privacy_toolkit.sandbox import start_in_thread
from privacy_toolkit.sandbox.store import SandboxSettings
from privacy_toolkit.talonone.operations import Generation
from tests.support.documents import read_document, settle
from tests.support.shop import CARD, MEMBER, hold_loyalty

KEY = {"Authorization": "ApiKey-v1 sandbox-key"}
METHODS = ("GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE")
#: Parts of a path or body that name something there is, so that not every request is about nobody.
THERE: dict[str, list[Any]] = {
    "integrationId": ["customer-00001", MEMBER, "e0"],
    "couponValue": ["SANDBOX-0001", "SANDBOX-0002"],
    "integrationIDs": [["customer-00001", "c1"]],
    "customerSessionId": ["s4", "s5"],
    "loyaltyProgramId": [1],
    "loyaltyCardId": [CARD],
}
#: Answers that the document does not declare for an operation, and why the sandbox gives them. What no operation can
#: answer otherwise is not here: 401 to a wrong key, 404 to a path that is none of the document's, 405 with Allow.
UNDECLARED = {
    ("updateCustomerProfile", 400): "V1: the last document that had it declares successes alone",
    ("updateCustomerSession", 400): "V1: the last document that had it declares successes alone",
    ("trackEventV3", 204): "by the words of 'silent', whose default is 'yes': the answer is a 204",
}
#: A 204 is empty (RFC 9110, section 15.3.5), though the document gives that of V2 events a body.
NO_CONTENT = 204
_CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance")
#: Apart from the others: what no type is given for is not looked at either.
_BODY = "response_schema_conformance"


@dataclass
class Seen:
    """What was answered, by operation, and what the document does not say: each once, with a request that does it."""

    answers: dict[str, Counter[int]] = field(default_factory=dict)
    departures: dict[str, str] = field(default_factory=dict)
    used: set[tuple[str, int]] = field(default_factory=set)

    def depart(self, what: str, how: str) -> None:
        """Keep a departure with the first request that showed it."""
        self.departures.setdefault(what, how)


class Explorer:
    """Requests made from the document, operation by operation, each to a sandbox of its own."""

    def __init__(self) -> None:
        load_all_checks()
        self.seen = Seen()
        self.document = read_document(Generation.CURRENT)
        settle(self.document)
        schema = schemathesis.openapi.from_dict(self.document)
        schema.config.generation.with_security_parameters = False
        self._schema = schema
        self.operations = {one.definition.raw["operationId"]: one for one in map(_ok, schema.get_all_operations())}
        self._base_url, self._session = "", requests.Session()
        self._shapes = Shapes(self.document)

    def explore(self, name: str, examples: int, seed: int) -> None:
        """Ask one operation: what covers its schema, so many valid and so many broken requests, and nulls in bodies."""
        with self._sandbox():
            self._explore(name, self.operations[name], examples, seed)

    def _explore(self, name: str, operation: APIOperation, examples: int, seed: int) -> None:
        config = self._schema.config.generation_for(operation=operation, phase="coverage")
        for case in self._schema.iter_coverage_cases(
            operation, generation_modes=list(GenerationMode), generation_config=config
        ):
            if case.method.upper() == operation.method.upper():
                self._ask(name, case)
        self._draw(operation, GenerationMode.POSITIVE, examples, seed, lambda case: self._play(name, case))
        if operation.body or operation.query:  # a path of one text has no broken form
            self._draw(operation, GenerationMode.NEGATIVE, examples, seed, lambda case: self._ask(name, case))

    def _draw(
        self, operation: APIOperation, mode: GenerationMode, examples: int, seed: int, play: Callable[[Case], None]
    ) -> None:
        drawn = count()

        @seeded(seed)
        @settings(
            max_examples=examples,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def draw(case: Case) -> None:
            turn, is_there = divmod(next(drawn), 2)
            if is_there:  # every second one is about something there is
                there = {part: names[turn % len(names)] for part, names in THERE.items()}
                case.path_parameters = {part: there[part] for part in case.path_parameters}
                if isinstance(case.body, dict):
                    case.body = case.body | {part: there[part] for part in case.body.keys() & there.keys()}
            play(case)

        draw()

    def _play(self, name: str, case: Case) -> None:
        if not case.operation.body:
            self._ask(name, case)
            return
        taken = self._shapes.flat(case.operation.definition.raw["requestBody"])
        schema = taken["content"]["application/json"]["schema"]
        case.body = self._shapes.declared(case.body, schema)  # what nobody declared is refused, and is not the point
        if self._ask(name, case) < http.client.BAD_REQUEST:
            for where, body in self._shapes.with_nulls(case.body, schema):
                case.body = body
                status = self._ask(name, case)
                if status != http.client.BAD_REQUEST:
                    self.seen.depart(f"{name}: {status} to null at {where}", case.as_curl_command())

    def _ask(self, name: str, case: Case) -> int:
        """Send one request, and keep what the document does not say of its answer."""
        answer = case.call(base_url=self._base_url, session=self._session, headers=KEY)
        status = answer.status_code
        self.seen.answers.setdefault(name, Counter())[status] += 1
        declared = str(status) in case.operation.definition.raw["responses"]
        if not declared and (name, status) in UNDECLARED:
            self.seen.used.add((name, status))
            return status
        if status == NO_CONTENT:
            if answer.content or not declared:
                self.seen.depart(f"{name}: 204 that is not empty, or not declared", case.as_curl_command())
            return status
        try:
            case.validate_response(answer, checks=CHECKS.get_by_names([*_CHECKS, _BODY]))
        except FailureGroup as group:
            for failure in group.exceptions:
                self.seen.depart(f"{name}: {status}: {failure}"[:600], case.as_curl_command()[:600])
        return status

    @contextmanager
    def _sandbox(self) -> Iterator[None]:
        """Ask a sandbox with customers who have something of everything."""
        settings = SandboxSettings(seed_customers=10, unknown_profile="create")
        with start_in_thread(settings) as sandbox, requests.Session() as self._session:
            hold_loyalty(sandbox.store)
            self._base_url = sandbox.base_url
            yield

    def methods(self, path: str) -> Iterator[tuple[str, int, str | None]]:
        """Ask a path of the document by every method that it does not have: method, status, and ``Allow``."""
        parts = {f"{{{part}}}": str(names[0]) for part, names in THERE.items()}
        target = "/".join(parts.get(part, part) for part in path.split("/"))
        with self._sandbox():
            connection = http.client.HTTPConnection(self._base_url.removeprefix("http://"), timeout=60)
            for method in METHODS:
                if method.lower() not in self.document["paths"][path]:
                    connection.request(method, target, headers=KEY)
                    answer = connection.getresponse()
                    answer.read()
                    yield method, answer.status, answer.headers["allow"]
            connection.close()


class Shapes:
    """What the schemas of a document say of the parts of a body."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document

    def declared(self, value: Any, schema: dict[str, Any]) -> Any:
        """A body without the properties that nobody declared."""
        return self._walk(value, self.flat(schema))

    def with_nulls(self, value: Any, schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        """The body again and again, each time with null for one property or entry that may not be null, and where."""
        flat = self.flat(schema)
        for name, part, inner in self._parts(value, flat):
            if "null" not in inner.get("type", ()) and inner:
                yield f"/{name}", _with(value, name, None)
            for where, changed in self.with_nulls(part, inner):
                yield f"/{name}{where}", _with(value, name, changed)

    def _walk(self, value: Any, flat: dict[str, Any]) -> Any:
        if isinstance(value, dict) and (flat.get("properties") or isinstance(flat.get("additionalProperties"), dict)):
            return {name: self._walk(part, inner) for name, part, inner in self._parts(value, flat)}
        if isinstance(value, list) and "items" in flat:
            return [self._walk(part, inner) for _, part, inner in self._parts(value, flat)]
        return value

    def _parts(self, value: Any, flat: dict[str, Any]) -> Iterator[tuple[Any, Any, dict[str, Any]]]:
        """The declared parts of a value, each with what is said of it."""
        if isinstance(value, dict):
            for name, part in value.items():
                inner = flat.get("properties", {}).get(name, flat.get("additionalProperties"))
                if isinstance(inner, dict):
                    yield name, part, self.flat(inner)
        elif isinstance(value, list) and "items" in flat:
            for place, part in enumerate(value):
                yield place, part, self.flat(flat["items"])

    def flat(self, schema: dict[str, Any]) -> dict[str, Any]:
        """A schema without references, and with what it has all of."""
        while "$ref" in schema:
            found: Any = self._document
            for step in schema["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            schema = found
        flat = {**schema, "properties": dict(schema.get("properties", {}))}
        for part in schema.get("allOf", ()):
            inner = self.flat(part)
            flat = {**inner, **flat, "properties": {**inner["properties"], **flat["properties"]}}
        return flat


def _with(value: Any, name: Any, part: Any) -> Any:
    changed = value.copy()
    changed[name] = part
    return changed


def _ok(result: Any) -> APIOperation:
    operation: APIOperation = result.ok()
    return operation


def main() -> None:
    """Ask every operation, and say what was answered; exit code 1 where the document says otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=100, help="valid and broken requests for each operation")
    parser.add_argument("--seed", type=int, default=0)
    given_ = parser.parse_args()
    asking = Explorer()
    for name in asking.operations:
        asking.explore(name, given_.examples, given_.seed)
        sys.stdout.write(f"{name}: {json.dumps(asking.seen.answers[name])}\n")
    for what, how in asking.seen.departures.items():
        sys.stdout.write(f"\n{what}\n  {how}\n")
    sys.exit(bool(asking.seen.departures))


if __name__ == "__main__":
    main()
