"""The jobs as commands: what each takes from the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from msgspec.structs import asdict

from privacy_toolkit.cli.options import (
    CommandOptions,
    FiniteRange,
    api_option,
    dry_option,
    event_api_option,
    execution_options,
    input_of,
    input_options,
    one_by_one_option,
    plan_options,
    regime_option,
    safe_option,
    settings_options,
    start_job,
    take_settings,
    written_to,
)
from privacy_toolkit.cli.output import emit_json, microseconds, result, say
from privacy_toolkit.config.settings import Flags, load_settings
from privacy_toolkit.core.model import LANGUAGES, ExitCode, UsageError, count
from privacy_toolkit.inputs.files import STDIN

Command = TypeVar("Command", bound=Callable[..., Any])

# ``privacy-toolkit erase``.


def _programs(name: str, text: str) -> Callable[[Command], Command]:
    return click.option(name, metavar="PROGRAM", multiple=True, help=text)


@click.command("erase")
@click.argument("requests", required=False)
@click.option(
    "--reappeared", metavar="RUN|all", help="Instead of a list: who reappeared in the patrol RUN, or in all of them."
)
@plan_options
@regime_option
@_programs("--with-loyalty", "Delete the ledger of these loyalty programs first (numbers: 33,34; may be repeated).")
@_programs("--with-cards", "Unlink the cards of these card-based loyalty programs first (as above).")
@click.option(
    "--verify", default="all", show_default=True, metavar="all|sample:N|none", help="Whom to read afterwards."
)
@input_options
@execution_options
@settings_options
def erase_command(**options: Any) -> int:
    """Erase the personal data of the customers listed in REQUESTS (CSV, .xlsx or Parquet; - for CSV from stdin).

    For each customer: read what is held, erase it, read again. Customers that are unknown are left alone. The report
    says of every one what was seen. An erasure can't be undone: it has to be confirmed by typing how many customers
    are erased from where. --reappeared takes those who were seen again by a patrol.

    With --with-loyalty and --with-cards the customer's loyalty goes first. A profile is erased only after every
    program that was named has been read and seen empty.
    """
    from privacy_toolkit.journal.state import existing_state

    parameters = {name: ",".join(options.pop(name)) or None for name in ("with_loyalty", "with_cards")}
    path, patrol = options.pop("requests"), options.pop("reappeared")
    if (path is None) == (patrol is None):
        raise UsageError("Who is to be erased?", "Name a list, or a patrol with --reappeared RUN; one of the two.")
    if path is not None:
        return start_job("erase", path, options, parameters)
    del options["id_column"]  # no file is read
    settings = load_settings(Flags(options["config"], options["profile"], options["state"]))
    state = existing_state(settings.state, settings.state_key)
    parameters["reappeared"] = patrol if patrol == "all" else state.find(patrol)
    return start_job("erase", STDIN, options, parameters)


# ``privacy-toolkit coupons``.

_budget = click.option(
    "--max-per-coupon",
    metavar="N",
    type=click.IntRange(min=0),
    help="At most N customers may have any one coupon reserved, no matter who reserved it.",
)

_out = written_to(
    "--out", metavar="FILE", help="Write who has which code to FILE, and what became of each code: .csv or .parquet."
)
_carry = click.option(
    "--carry", metavar="COLUMNS", help="Columns of the input that go to FILE too, such as email,name."
)
_preset = click.option(
    "--preset",
    type=click.Choice(["braze", "klaviyo"]),
    help="FILE as that mail tool imports it; those with a code alone.",
)
#: What is set for a file with codes alone.
_LISTED = ("carry", "spreadsheet_safe")


def _taken(options: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: options.pop(name) for name in names}


@click.group("coupons")
def coupons_command() -> None:
    """Reserve coupons for customers, release them, assign codes, and list who holds what."""


@coupons_command.command("reserve")
@click.argument("rows")
@_budget
@_out
@_carry
@_preset
@safe_option
@plan_options
@input_options
@execution_options
@settings_options
def reserve(**options: Any) -> int:
    """Reserve coupons for the customers listed in ROWS (columns coupon_value, customer_id, where wanted budget).

    For each coupon: read who has it, send for those who are missing, read again. The API overrides a coupon's own
    reservation limit; a budget is kept here instead: the smallest of --max-per-coupon and the coupon's rows. Who is
    beyond it is on hold.
    """
    parameters = _taken(options, "max_per_coupon", "preset", *_LISTED)
    return start_job("reserve", options.pop("rows"), options, parameters)


@coupons_command.command("release")
@click.argument("rows")
@click.option("--unredeemed", is_flag=True, help="Only for customers who have certainly not redeemed the coupon.")
@_out
@_carry
@safe_option
@plan_options
@input_options
@execution_options
@settings_options
def release(**options: Any) -> int:
    """Release the reservations listed in ROWS (columns coupon_value, customer_id).

    For each coupon: read who has it, release those of the list who do, and read again whether they are gone.
    """
    return start_job("release", options.pop("rows"), options, _taken(options, "unredeemed", *_LISTED))


@coupons_command.command("assign")
@click.argument("customers")
@click.option("--coupons", "second", metavar="CODES", required=True, help="The codes to assign (column coupon_value).")
@click.option("--seed", metavar="N", type=int, help="Assign in the order this number stands for [that of the files].")
@click.option("--check/--no-check", default=True, help="Whether to read the codes before they are assigned [check].")
@_budget
@_out
@_carry
@_preset
@safe_option
@plan_options
@input_options
@execution_options
@settings_options
def assign(**options: Any) -> int:
    """Assign one code of CODES to each customer listed in CUSTOMERS, and reserve it for them.

    With a column budget in CODES a code goes to that many customers. A code that doesn't exist, or that others have, is
    skipped for the next one. A code that this state folder assigned before goes to nobody else, and who has one of
    these codes from before keeps it. If the codes run out, nothing is sent. FILE holds personal data and is for its
    owner alone.
    """
    parameters = _taken(options, "seed", "max_per_coupon", "check", "preset", *_LISTED)
    return start_job("assign", options.pop("customers"), options, parameters)


@coupons_command.command("holders")
@click.argument("codes")
@written_to("--out", metavar="FILE", required=True, help="The file to write: .csv or .parquet.")
@click.option("--with-attributes", is_flag=True, help="The customers' profiles too, not only their ids.")
@safe_option
@plan_options
@input_options
@execution_options
@settings_options
def holders(**options: Any) -> int:
    """Write to a file which customers have each coupon listed in CODES (column coupon_value) reserved.

    It only reads, so it asks for no confirmation. FILE holds personal data and is for its owner alone.
    """
    parameters = {name: options.pop(name) for name in ("with_attributes", "spreadsheet_safe")}
    return start_job("holders", options.pop("codes"), options, parameters)


@coupons_command.command("pool")
@click.argument("codes")
@click.option(
    "--low", metavar="N", type=click.IntRange(min=1), help="Exit with 3 if fewer than N customers can get one."
)
@click.option("--rate", metavar="N", type=FiniteRange(min=0, min_open=True), help="Requests per second.")
@click.option("--concurrency", metavar="N", type=click.IntRange(1, 10_000), help="Requests in flight.")
@input_options
@settings_options
def pool(**options: Any) -> int:
    """Count what is left of CODES (column coupon_value, where wanted budget): free, assigned, held by others, expired.

    Each code is read once at the API, and nothing is changed. What is counted are customers: a code without a budget is
    for one of them.
    """
    from privacy_toolkit.app import patrol

    as_json, path, low = options.pop("as_json"), options.pop("codes"), options.pop("low")
    execution = CommandOptions(rate=options.pop("rate"), concurrency=options.pop("concurrency"))
    settings = take_settings(options, execution)
    found = patrol.pool(path, input_of(options, settings.input), settings, say, microseconds)
    is_low = low is not None and found.free < low
    if as_json:
        emit_json({**asdict(found), "low": is_low})
    else:
        _show_pool(asdict(found), low if is_low else None)
    return ExitCode.OPEN_ITEMS if is_low else ExitCode.SETTLED


@coupons_command.command("status")
@click.argument("rows")
@written_to("--out", metavar="FILE", help="Write who has redeemed which coupon to FILE: .csv or .parquet.")
@_carry
@safe_option
@click.option("--rate", metavar="N", type=FiniteRange(min=0, min_open=True), help="Requests per second.")
@click.option("--concurrency", metavar="N", type=click.IntRange(1, 10_000), help="Requests in flight.")
@input_options
@settings_options
def status(**options: Any) -> int:
    """Count who has redeemed their coupon, of ROWS (columns coupon_value, customer_id), such as a FILE of assign.

    The inventory of each customer is read once, and nothing is changed. FILE holds personal data and is for its owner
    alone.
    """
    from privacy_toolkit.app import patrol

    as_json, path, out = options.pop("as_json"), options.pop("rows"), options.pop("out")
    carry, guard = options.pop("carry"), options.pop("spreadsheet_safe")
    execution = CommandOptions(rate=options.pop("rate"), concurrency=options.pop("concurrency"))
    settings = take_settings(options, execution)
    order = patrol.RedemptionOrder(path, input_of(options, settings.input), out, carry, guard)
    found = patrol.redemptions(order, settings, say, microseconds)
    if as_json:
        emit_json({**asdict(found), "out": out})
        return ExitCode.OPEN_ITEMS if found.rejected else ExitCode.SETTLED
    for name, number in found.counts.items():
        result(f"{name:<14}{number:>12,}")
    result(f"{'subjects':<14}{found.read:>12,}")
    if found.rejected:
        result(f"{'refused rows':<14}{found.rejected:>12,}")
    if out is not None:
        result(f"File: {out}")
    return ExitCode.OPEN_ITEMS if found.rejected else ExitCode.SETTLED


def _show_pool(found: dict[str, int], low: int | None) -> None:
    told = {
        "places": f"customers, for {count(found['codes'], 'code')}",
        "assigned": "given away by this state folder",
        "held": "taken by others",
        "free": "can be given away",
    }
    for name, meaning in told.items():
        result(f"{name:<10}{found[name]:>12,}  {meaning}")
    for name, meaning in (("missing", "unknown to the API"), ("expired", "last shown as expired or used up")):
        if found[name]:
            result(f"{name:<10}{found[name]:>12,}  {'code' if found[name] == 1 else 'codes'} {meaning}")
    if found["rejected"]:
        result(f"{'refused':<10}{found['rejected']:>12,}  rows of the list")
    if low is not None:
        say(f"LOW: fewer than {low:,} customers can get a code.")


# ``privacy-toolkit export``.

#: In the place of the list: write a sample of the notice instead.
INIT_NOTICE = "init-notice"


@click.command("export")
@click.argument("requests")
@click.argument("notice_file", required=False)
@written_to("--out", metavar="DIR", help="The folder for the packages, one a person.")
@click.option("--lang", type=click.Choice(LANGUAGES), default=LANGUAGES[0], show_default=True, help="Language.")
@click.option("--notice", metavar="FILE", help="What the controller has to say (GDPR, Article 15(1)); see init-notice.")
@click.option("--zip", "as_zip", is_flag=True, help="Each package as one .zip file.")
@click.option("--encrypt", metavar="age:RECIPIENT", help="Each package as one .age file for that key.")
@_programs("--with-loyalty", "Read the ledger of these loyalty programs too (numbers: 33,34; may be repeated).")
@click.option("--cards", is_flag=True, help="Read the transactions of cards that are the customer's alone too.")
@click.option("--sessions", metavar="FILE", help="Read these sessions too: a list with customer_id and session_id.")
@click.option("--achievements", is_flag=True, help="Read what can be achieved too, also where nothing is yet.")
@click.option("--new-only", is_flag=True, help="Leave out whose request was exported already.")
@click.option("--keep-days", metavar="N", type=click.IntRange(min=1), help="Remove packages in DIR older than N days.")
@plan_options
@regime_option
@input_options
@execution_options
@settings_options
def export_command(**options: Any) -> int:
    """Export what is held about the customers listed in REQUESTS (CSV, Parquet or JSON Lines; - for standard input).

    For each customer: read the inventory, write a package that the person can read and take elsewhere. Nothing is
    changed at the API, so nothing has to be confirmed.

    "export init-notice FILE" writes a commented sample of the controller's notice and does nothing else.
    """
    if options["requests"] == INIT_NOTICE:
        return _init_notice(options["notice_file"], options["as_json"])
    if options.pop("notice_file") is not None:
        raise UsageError("There are two inputs; one list at a time.", "privacy-toolkit export --help")
    parameters = {
        "lang": options.pop("lang"),
        "zip": options.pop("as_zip"),
        "encrypt": options.pop("encrypt"),
        "new_only": options.pop("new_only"),
        "keep_days": options.pop("keep_days"),
        "with_loyalty": ",".join(options.pop("with_loyalty")) or None,
        "achievements": options.pop("achievements"),
        "cards": options.pop("cards"),
    }
    options["second"] = options.pop("notice")
    return start_job("export", options.pop("requests"), options, parameters)


def _init_notice(given: str | None, as_json: bool) -> int:
    from privacy_toolkit.access.words import sample
    from privacy_toolkit.cli.output import emit_json, result

    if given is None:
        raise UsageError("The sample needs a file to be written to.", "privacy-toolkit export init-notice FILE")
    path = Path(given)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(sample())
    except FileExistsError:
        raise UsageError(f"{path} exists already; nothing was written.", "Name a new file.") from None
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}.") from None
    if as_json:
        emit_json({"notice": str(path)})
    else:
        result(f"Notice: {path}")
        result(f"Fill it in, then: privacy-toolkit export REQUESTS --out DIR --notice {path}")
    return ExitCode.SETTLED


# ``privacy-toolkit events``.


@click.group("events")
def events_command() -> None:
    """Track events of customers."""


@events_command.command("track")
@click.argument("rows")
@event_api_option
@dry_option
@plan_options
@input_options
@execution_options
@settings_options
def track(**options: Any) -> int:
    """Track an event for each row of ROWS (CSV, Parquet or JSON Lines).

    Columns: profileId (or a usual name of the column with the customers), type, attributes.NAME; with --api v1 also
    sessionId; with --api v3 eventId, where the events have ids of their own.

    The events of one customer go out one after another, in the order of the file, and none is counted twice. Where an
    answer was lost, a V3 event is sent again or looked up by its id, and a V2 one sent again within 23 hours, with the
    key by which the API knows it; what then is still unknown is left to a person.
    """
    parameters = {name: options.pop(name) for name in ("api", "dry")}
    return start_job("events", options.pop("rows"), options, parameters)


# ``privacy-toolkit sessions``.


@click.group("sessions")
def sessions_command() -> None:
    """Update customer sessions."""


@sessions_command.command("update")
@click.argument("rows")
@api_option
@dry_option
@plan_options
@input_options
@execution_options
@settings_options
def update_sessions(**options: Any) -> int:
    """Update a customer session for each row of ROWS (CSV, Parquet or JSON Lines).

    Columns: session_id, and where wanted profileId or customer_id, state, cartItems (JSON), attributes.NAME and the
    other fields of a session.

    The updates of one session and of one customer go out one after another, in the order of the file.
    """
    parameters = {name: options.pop(name) for name in ("api", "dry")}
    return start_job("sessions", options.pop("rows"), options, parameters)


# ``privacy-toolkit profiles``.


@click.group("profiles")
def profiles_command() -> None:
    """Update customer profiles."""


@profiles_command.command("update")
@click.argument("rows")
@api_option
@dry_option
@click.option("--run-rule-engine", is_flag=True, help="Have the rules evaluated; --dry with --api v2 needs it.")
@one_by_one_option
@plan_options
@input_options
@execution_options
@settings_options
def update_profiles(**options: Any) -> int:
    """Update a customer profile for each row of ROWS (CSV, Parquet or JSON Lines).

    Columns: customer_id (or another usual name of the column with the customers), attributes.NAME; with --api v2 also
    audiencesChanges.adds and audiencesChanges.deletes, evaluableCampaignIds, responseContent.

    Attributes are merged: leaving one out keeps it. A customer without a profile gets one. The updates of one customer
    go out one after another, in the order of the file.

    Rows with nothing but attributes go out in requests for up to 1,000 customers, whose answer shows each profile; not
    with --api v1, --dry and --run-rule-engine.
    """
    parameters = {name: options.pop(name) for name in ("api", "dry", "run_rule_engine", "at_once")}
    return start_job("profiles", options.pop("rows"), options, parameters)


@click.group("referrals")
def referrals_command() -> None:
    """Create referral codes."""


@referrals_command.command("create")
@click.argument("rows")
@written_to("--out", metavar="FILE", help="Write the codes that were made to FILE: .csv or .parquet.")
@safe_option
@one_by_one_option
@plan_options
@input_options
@execution_options
@settings_options
def create(**options: Any) -> int:
    """Create a referral code for each row of ROWS (CSV, Parquet or JSON Lines).

    Columns: advocateProfileIntegrationId (or a usual name of the column with the customers), campaignId, and where
    wanted friendProfileIntegrationId, startDate, expiryDate, usageLimit, attributes.NAME.

    Rows with a usageLimit and without a friend go out in requests for up to 1,000 advocates, all that is the same but
    the advocate.

    Each request makes new codes, so none is ever sent twice: where an answer was lost its rows stay unknown, for a
    person to look at. With --one-by-one that is one row. FILE has row, advocate_id, referral_code, referral_id and
    expiry; it holds personal data and is for its owner alone.
    """
    parameters = {name: options.pop(name) for name in ("spreadsheet_safe", "at_once")}
    return start_job("referrals", options.pop("rows"), options, parameters)


@click.group("audiences")
def audiences_command() -> None:
    """Put customers in audiences, or take them out."""


@audiences_command.command("update")
@click.argument("rows")
@plan_options
@input_options
@execution_options
@settings_options
def update_audiences(**options: Any) -> int:
    """Put the customer of each row of ROWS (CSV, Parquet or JSON Lines) in an audience, or take them out.

    Columns: customer_id (or another usual name of the column with the customers), audienceId, action (add or delete).

    Rows go out in requests for up to 1,000 customers; those of one customer one after another, in the order of the
    file. A customer without a profile gets one that no Application shows until something is sent for them.
    """
    return start_job("audiences", options.pop("rows"), options, {})
