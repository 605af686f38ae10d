"""Which request a job makes of a row, by what the operator set: the version of the API, a dry run, the rule engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from privacy_toolkit.api.addresses import QueryValue
from privacy_toolkit.api.models import RequestBody
from privacy_toolkit.api.operations import OPERATIONS, Generation, Operation
from privacy_toolkit.engine.declaration import Parameters
from privacy_toolkit.errors import UsageError
from privacy_toolkit.inputs.fieldplaces import Places
from privacy_toolkit.inputs.fields import FieldForm
from privacy_toolkit.inputs.options import ID_COLUMNS
from privacy_toolkit.model import Job

#: How the flags of a query are called among the parameters of a plan, and on the command line.
FLAGS = {"dry": ("dry", "--dry"), "runRuleEngine": ("run_rule_engine", "--run-rule-engine")}

_EARNEST = "It would be carried out in earnest."


@dataclass(frozen=True, slots=True)
class Kind:
    """A job that makes one request of each row.

    ``operations`` has its operation in each version of the API that has it. ``customers`` are the fields that name
    customers; where ``id_field`` is set the id of the row stands in that field, else in the path. ``aliases`` are
    further names of fields, ``opened`` the object whose fields are columns of their own.
    """

    job: Job
    operations: Mapping[str, Operation]
    id_columns: tuple[str, ...]
    customers: tuple[str, ...] = ()
    id_field: str | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    opened: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """The request of each row: its operation and body, what stands in the query, and the deployment's generation."""

    operation: Operation
    body: type[RequestBody]
    version: str
    query: Mapping[str, QueryValue]
    generation: Generation


REFERRALS = Kind(
    Job.REFERRALS,
    {"v1": OPERATIONS["create_referral"]},
    id_columns=("advocateProfileIntegrationId", *ID_COLUMNS),
    id_field="advocateProfileIntegrationId",
    customers=("friendProfileIntegrationId",),
)
EVENTS = Kind(
    Job.EVENTS,
    {"v1": OPERATIONS["track_event"], "v2": OPERATIONS["track_event_v2"]},
    id_columns=("profileId", *ID_COLUMNS),
    id_field="profileId",
)
PROFILES = Kind(
    Job.PROFILES,
    {"v1": OPERATIONS["update_customer_profile"], "v2": OPERATIONS["update_customer_profile_v2"]},
    id_columns=ID_COLUMNS,
)
SESSIONS = Kind(
    Job.SESSIONS,
    {"v1": OPERATIONS["update_customer_session"], "v2": OPERATIONS["update_customer_session_v2"]},
    id_columns=("session_id", "customerSessionId", "sessionId"),
    customers=("profileId",),
    aliases=dict.fromkeys(set(ID_COLUMNS) - {"id"}, "profileId"),
    opened={"v2": "customerSession"},
)


def request_of(kind: Kind, parameters: Parameters) -> Request:
    """The request that the parameters ask for.

    Raises:
        UsageError: there is no such request, or it would do something else than is meant.
    """
    generation = Generation(str(parameters.get("generation") or Generation.CURRENT))
    version = str(parameters.get("api") or max(kind.operations))
    operation = kind.operations.get(version)
    if operation is None or operation.body is None:
        raise UsageError(f"{kind.job.capitalize()} have no version {version} of the API.")
    if generation not in operation.generations:
        others = [one for one, other in kind.operations.items() if generation in other.generations]
        raise UsageError(
            f"{_deployments(generation).capitalize()} have no {operation.operation_id}.",
            f"Use --api {' or '.join(others)}.",
        )
    return Request(operation, operation.body, version, _query(operation, generation, parameters), generation)


def form_of(kind: Kind, request: Request) -> FieldForm:
    """How a row becomes the body of the request."""
    body = request.operation.body_for(request.generation) or request.body
    opened = kind.opened.get(request.version)
    newer = Places(request.body, opened).fields - Places(body, opened).fields
    excluded = dict.fromkeys(newer, "deployments of 2020 do not know it")
    flags = {flag.name for flag in request.operation.query if request.generation in flag.generations}
    if "runRuleEngine" in flags and "runRuleEngine" not in request.query:
        excluded["responseContent"] = "the API takes it only with --run-rule-engine"
    return FieldForm(
        body,
        id_columns=kind.id_columns,
        id_field=kind.id_field,
        opened=opened,
        aliases=kind.aliases,
        customers=kind.customers,
        excluded=excluded,
    )


def _query(operation: Operation, generation: Generation, parameters: Parameters) -> dict[str, QueryValue]:
    wanted = {flag: option for flag, (name, option) in FLAGS.items() if parameters.get(name)}
    known = {flag.name: flag for flag in operation.query if generation in flag.generations}
    for name, option in wanted.items():
        if name not in known:
            raise UsageError(
                f"{operation.operation_id} has no {option} at {_deployments(generation)}.",
                "Leave it out." if name != "dry" else f"{_EARNEST} docs/writes.md says where a dry run is one.",
            )
        needs = known[name].needs
        if needs and needs not in wanted:
            raise UsageError(
                f"{operation.operation_id} heeds {option} only together with {FLAGS[needs][1]}.",
                f"{_EARNEST} Give {FLAGS[needs][1]} as well.",
            )
    return dict.fromkeys(wanted, True)


def _deployments(generation: Generation) -> str:
    return "deployments of 2020" if generation is Generation.SEED else "current deployments"
