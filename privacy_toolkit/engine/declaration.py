"""What a job says of itself, once: all that the engine, the plan and the command line need to know of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from privacy_toolkit.api.operations import Operation
from privacy_toolkit.engine.dealing import Dealing, Dealt, Subjects, as_they_stand
from privacy_toolkit.engine.looking import Look
from privacy_toolkit.engine.steps import Procedure
from privacy_toolkit.inputs.form import RowForm
from privacy_toolkit.model import Hold, Job, Sequencing

Calls = dict[str, tuple[int, int]]
#: What an operator sets for one job, such as the version of the API; stands in the plan. No secret, no path, no id.
Parameters = Mapping[str, str | int | bool | None]


@dataclass(frozen=True, slots=True)
class Context:
    """What a job is carried out with: its parameters, the run's secret, how many subjects there are, and settings.

    ``settle`` is how long, in seconds, an accepted change may stay invisible. ``deliver`` takes what was read of a
    person where a job hands it over: (number of the subject, id, body of the answer or None, time) to what is kept.
    """

    parameters: Parameters
    verify: str
    subjects: int
    secret: bytes
    settle: float
    deliver: Callable[[int, str, bytes | None, int], bytes] | None = None


def _no_form(parameters: Parameters) -> RowForm | None:  # noqa: ARG001 - for jobs that take only the id
    return None


def _nothing(id_: str, given: str) -> Mapping[str, str]:  # noqa: ARG001 - for jobs that take only the id
    return {}


def _the_id(id_: str, given: str) -> tuple[str, ...]:  # noqa: ARG001 - for jobs that take only the id
    return (id_,)


@dataclass(frozen=True, slots=True)
class Declaration:
    """A job, declared.

    Attributes:
        job: its name.
        calls: by the number of subjects, the least and the most requests of each operation, retries apart.
        make: the procedure for one sitting.
        form: what is taken of a row beside the id; None for an input of ids.
        deal: what is made of the input before it is planned.
        look: what is read for the plan, so that whoever confirms it knows how things stand; None for nothing.
        must_look: whether a plan with these parameters may not be confirmed without that.
        shown: what an operator is shown of a subject (its id, and what else is given) beside its id, by name.
        customers: whose data a subject (its id, and what else is given) is about: those the exclusion list is about.
        creates_profile: a request re-creates the profile of an erased customer (API facts, deleteCustomerData).
        sequencing: in which order the subjects are taken.
        ordered: what was sent and not answered may be carried out late, and undo what is sent after it.
        party: the name under which subjects belong together, for ``Sequencing.TOGETHER``.
        writes: whether it changes anything at the API, so that it has to be confirmed.
        absences: the operations whose 404 settles subjects: their controls are asked before anything else.
        has_clock: whether a law says by when each subject has to be settled.
    """

    job: Job
    calls: Callable[[int, Parameters], Calls]
    make: Callable[[Context], Procedure]
    form: Callable[[Parameters], RowForm | None] = _no_form
    deal: Callable[[Dealing], Dealt] = as_they_stand
    look: Callable[[Subjects, Mapping[int, Hold], Parameters], Look | None] | None = None
    must_look: Callable[[Parameters], bool] = lambda _: False
    shown: Callable[[str, str], Mapping[str, str]] = _nothing
    customers: Callable[[str, str], Collection[str]] = _the_id
    creates_profile: bool = False
    sequencing: Sequencing = Sequencing.URGENCY
    ordered: bool = False
    party: Callable[[str, str], str] | None = None
    writes: bool = True
    absences: tuple[Operation, ...] = ()
    has_clock: bool = False
