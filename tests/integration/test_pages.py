"""Every command block of the documentation is typed, in the order of its page, and ends as the page promises."""

import os
import shutil
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

import privacy_toolkit
from privacy_toolkit.sandbox import start_in_thread
from privacy_toolkit.sandbox.store import SandboxSettings
from privacy_toolkit.sandbox.wire import seed, seed_codes
from tests.support import postgres, workbooks
from tests.support.bucket import storage
from tests.support.lengths import IS_LONG
from tests.support.loopback import Handler, serving
from tests.support.pages import FENCE, LANGUAGES, PAGES, ROOT, Home, blocks, program
from tests.support.shop import write_profile

SHOWN = "shows what is written or printed"
INDEX = "installs from a package index"
#: Blocks that nobody types here, by page and first line, each with the reason.
NOT_TYPED = {
    ("access-package.md", "<reference>/"): SHOWN,
    ("deadlines.md", "customer_id,requested_at,extended_at,ticket,ground"): "a list; the page's commands are given it",
    ("deadlines.md", "2026-11-20"): SHOWN,
    ("receipts.md", "privacy-toolkit receipt v1"): SHOWN,
    (
        "receipts.md",
        "Valid: this row is yours. It is row 963 of the 1000 in the pack of run 20261123-080000-erase-0a1b2c.",
    ): SHOWN,
    ("releasing.md", "pip install --require-hashes --only-binary :all: -r runtime.txt"): INDEX,
    ("report.md", "privacy-toolkit/bc9d238d17aac0b85a412a991389b2d3"): SHOWN,
    ("sandbox.md", "pip install 'talonone-privacy-toolkit[sandbox]'"): INDEX,
    ("scheduling/README.md", "python3 -m venv /opt/privacy-toolkit"): INDEX,
    ("shell.md", "make man"): "builds the pages of all commands into this folder; tests/unit/cli builds and reads them",
    ("signing.md", 'dpo@example.org namespaces="privacy-toolkit-audit-pack@v1'): SHOWN,
    ("simulation.md", "make simulate"): "takes all cores for long; `make chaos` runs it",
    ("tour.md", "make tour"): "takes minutes; tests/cli/test_tour.py plays it with fewer customers",
    (
        "writes.md",
        '{"customer_id": "00123", "type": "bought", "attributes": {"amount": 19.9, "tags": ["a"]}}',
    ): "rows; the page's commands are given them",
    ("writes.md", "customer_id,audienceId,action"): "rows; the page's commands are given them",
}
#: Pages that take most of the time, and whose commands other tests give each time: typed by ``make chaos``.
ONLY_IF_LONG = {f"{name}.md" for name in ("letters", "patrol", "receipts", "register", "scale", "verify", "writes")}
EXECUTED = [
    page
    for page in PAGES
    if (IS_LONG or page not in ONLY_IF_LONG) and any(block.key not in NOT_TYPED for block in blocks(page))
]


@pytest.fixture(scope="module")
def sandbox():
    with start_in_thread(SandboxSettings(loyalty_programs=(1, 2, 33, 34, 44))) as running:
        seed(running.store, 3, ids=["customer-00001", "00123", "00124"])
        seed_codes(running.store, 200)
        yield running


@pytest.fixture
def home(tmp_path, nursery, sandbox, request, monkeypatch, age, ssh_keygen):
    folder = tmp_path / request.node.callspec.id.removesuffix(".md").replace("/", "-")
    folder.mkdir()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("XDG_")},
        "HOME": str(folder),
        "PATH": f"{program(tmp_path / 'bin')}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PRIVACY_TOOLKIT_BASE_URL": sandbox.base_url,
        "PRIVACY_TOOLKIT_API_KEY": "sandbox-key",
        "PRIVACY_TOOLKIT_STATE": str(folder / "state"),
        "PRIVACY_TOOLKIT_RATE": "100000",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    made = Home(folder, nursery, sandbox, environment)
    made.says |= {
        "REQUESTS": made.request_list,
        "RUN": "latest",
        "PACK": made.pack,
        "DIR": lambda: f"folder-{made.number}",
        "N": "1",
    }
    made.request_list("requests.csv")
    with made.stack:
        yield made


def body_of(page, first):
    return next(block.body for block in blocks(page) if block.key == (page, first))


class Webhook(Handler):
    def handle_one(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(204)
        self.end_headers()


def told(home):
    """Name a webhook that takes what it is told."""
    server = home.stack.enter_context(serving(Webhook))
    configured(
        home,
        "[notify]",
        f'webhook = {{ url = "http://127.0.0.1:{server.server_port}/", key = {{ env = "WEBHOOK_KEY" }} }}',
    )
    home.environment["WEBHOOK_KEY"] = "a key of the webhook, long enough"


def erased(home, *options):
    """Erase the customers of a new list; the list."""
    name = home.request_list()
    home.call(" ".join(["privacy-toolkit erase", name, *options]))
    return name


def signing(home):
    """Give the person a key, and the list of allowed signers."""
    said = home.call("privacy-toolkit keys new key --signer dpo@example.org").out
    home.file("allowed_signers", said.strip().splitlines()[-1])
    home.environment["PRIVACY_TOOLKIT_SIGNING_KEY_FILE"] = str(home.folder / "key")
    home.environment["PRIVACY_TOOLKIT_SIGNER"] = "dpo@example.org"


def configured(home, *lines):
    """Write the file with the settings of the page."""
    home.file("privacy-toolkit.toml", *lines)
    (home.folder / "privacy-toolkit.toml").chmod(0o600)


def filled_in(home, name):
    """Fill in what only the reader can say."""
    path = home.folder / name
    path.write_text(path.read_text("utf-8").replace("FILL IN", "Example"), "utf-8")


def ids_of(home, name):
    """The ids of a list, as a file with one on each line."""
    rows = (home.folder / name).read_text("utf-8").splitlines()[1:]
    return home.file(f"ids-{home.number}.txt", *(row.split(",")[0] for row in rows))


def approval(home):
    signing(home)
    (home.folder / ".ssh").mkdir()
    home.shell("ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519")
    public = (home.folder / ".ssh" / "id_ed25519.pub").read_text().split()[:2]
    listed = (home.folder / "allowed_signers").read_text().splitlines()
    home.file("allowed_signers", *listed, f"second@example.org {' '.join(public)}")
    home.environment["PRIVACY_TOOLKIT_ALLOWED_SIGNERS"] = str(home.folder / "allowed_signers")
    home.call("privacy-toolkit erase requests.csv --plan plan.json")


def access_package(home):
    home.call(f"privacy-toolkit export requests.csv --out packages --encrypt age:{age_key(home)}")
    name = next((home.folder / "packages").rglob("*.age"))
    home.says["0123456789abcdef0123456789abcdef.age"] = str(name)


def library(home):
    for person in ("first", "second"):
        home.call(f"privacy-toolkit keys new {person}-person.key --signer {person}@example.org")
    listed = [
        " ".join([f"{one}@example.org", *(home.folder / f"{one}-person.key.pub").read_text().split()[:2]])
        for one in ("first", "second")
    ]
    home.file("allowed_signers", *listed)
    configured(
        home,
        "[profiles.live]",
        f'signing_key = "{home.folder}/first-person.key"',
        'signer = "first@example.org"',
        f'allowed_signers = "{home.folder}/allowed_signers"',
        'approval = "required"',
    )
    home.says = {
        "mycompany.europe-west1.talon.one": home.target,
        "http://127.0.0.1:8080": home.sandbox.base_url,
        'api_key="…", signer=Signer("1", "…")': 'api_key="sandbox-key", signer=Signer("1", "fefecafedeadbeef")',
    } | home.says
    home.names |= {name: getattr(privacy_toolkit, name) for name in privacy_toolkit.__all__}


def back_again(home):
    """Have the customer whom the page erased at its top once more."""
    seed(home.sandbox.store, 1, ids=["customer-00001"])


def objects(home):
    kept = home.stack.enter_context(storage(home.environment))
    home.says = {"age1…": age_key(home)} | home.says
    del kept


def scale(home):
    """A database with an owner and roles, as the page has them made by its administrator."""
    postgres.needed()
    server = postgres.shared()
    with psycopg.connect(server.address("postgres"), autocommit=True) as connection:
        for role in ("toolkit_owner", "worker", "watcher"):
            connection.execute(
                f"DO $$ BEGIN CREATE ROLE {role} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
            )
        connection.execute("CREATE DATABASE documented OWNER toolkit_owner")
    database = f"127.0.0.1:{server.port}/documented"
    home.says = {"db.example.org/toolkit": database} | home.says
    home.next_to_it = ("privacy-toolkit worker",)


def workers(home):
    home.environment["PRIVACY_TOOLKIT_STATE"] = home.filled_in("postgresql://toolkit@db.example.org/toolkit")


def shell(home):
    (home.folder / ".config" / "fish" / "completions").mkdir(parents=True)
    if shutil.which("zsh"):
        home.says['eval "$(privacy-toolkit completion zsh)"'] = (
            """zsh -fc 'autoload -Uz compinit; compinit; eval "$(privacy-toolkit completion zsh)"'"""
        )


def console(home):
    erased(home)
    home.endless = ("privacy-toolkit console",)


def coupons(home):
    taken = iter(f"CODE-{number:05d}" for number in range(1, 200) if number % 20 not in {4, 9, 14, 17, 18, 0})

    def people():
        rows = (f"{one},{one}@example.org,Anna" for one in home.people())
        return home.file(f"people-{home.number}.csv", "customer_id,email,first_name", *rows)

    def codes():
        return home.file(f"codes-{home.number}.csv", "coupon_value,budget", f"{next(taken)},5", f"{next(taken)},5")

    def rows():
        return home.file(
            f"rows-{home.number}.csv", "coupon_value,customer_id", *(f"{next(taken)},{one}" for one in home.people())
        )

    def reserved():
        home.call(f"privacy-toolkit coupons reserve {rows()}")
        return "latest"

    home.says |= {
        "ROWS": rows,
        "CUSTOMERS": people,
        "CODES": codes,
        "RUN": reserved,
        "--out FILE": lambda: f"--out out-{home.number}.csv",
    }
    (home.folder / people()).rename(home.folder / "customers.csv")
    (home.folder / codes()).rename(home.folder / "codes.csv")
    (home.folder / rows()).rename(home.folder / "rows.csv")
    home.call(f"privacy-toolkit coupons assign customers.csv --coupons {codes()} --out mail.csv --carry email")
    home.codes["privacy-toolkit coupons pool codes.csv --low 500"] = 3  # "fewer than N are free"


def deadlines(home):
    told(home)
    home.file("requests.csv", body_of("deadlines.md", "customer_id,requested_at,extended_at,ticket,ground").strip())
    home.says |= {"FILE": lambda: f"due-{home.number}.ics"}


def erasure(home):
    hours = (datetime.now(UTC) + timedelta(hours=12)).strftime("%H:00")
    home.says |= {
        "--exclude FILE": "--exclude "
        + home.file("on-hold.csv", "customer_id,reason", f"{home.people(1)[0]},17(3)(e)"),
        "--plan FILE": lambda: f"--plan plan-{home.number}.json",
        "TEXT": f'"erase 2 from {home.target}"',
        "erase 1200 from mycompany.europe-west1.talon.one": f"erase 2 from {home.target}",
        "06:00": hours,
    }


def export(home):
    home.call("privacy-toolkit export init-notice filled-in.toml")
    filled_in(home, "filled-in.toml")
    home.says |= {
        "--notice FILE": "--notice filled-in.toml",
        "--sessions FILE": lambda: "--sessions " + home.file(f"sessions-{home.number}.csv", "customer_id,session_id"),
        "--plan FILE": lambda: f"--plan plan-{home.number}.json",
        "RECIPIENT": age_key(home),
        "PROGRAM": "1",
    }


def age_key(home):
    """Make a key of age, ``key.txt``; its recipient."""
    said = home.shell("age-keygen -o key.txt 2>&1 && age-keygen -y key.txt")
    return said.strip().splitlines()[-1]


def inputs(home):
    rows = [(one, "20.11.2026") for one in home.people()]
    workbooks.write(home.folder / "Anfragen.xlsx", [("Kundennummer", "Eingang"), *rows])
    home.file("crm.csv", "E-Mail,customer_id", *(f"{one}@example.org,{one}" for one, _ in rows))


def by_mail(home):
    """Write the list of addresses that the page speaks of."""
    crm = (home.folder / "crm.csv").read_text().splitlines()[1:]
    home.file("requests.csv", "E-Mail", *(line.split(",")[0] for line in crm))


def letters(home):
    name = erased(home)
    home.call("privacy-toolkit letters init filled-in")
    filled_in(home, "filled-in/letters.toml")
    home.says = {
        "--templates DIR": "--templates filled-in",
        "DATE": str(datetime.now(UTC).date()),
        "2026-12-01": str(datetime.now(UTC).date()),
        "FILE": ids_of(home, name),
    } | home.says


def operations(home):
    log = home.folder / "log"
    log.mkdir()
    home.says["/var/log/privacy-toolkit"] = str(log)


def at_work(home):
    """Begin a run that takes a while, at the most that the page asks for."""
    name = home.file("long.csv", "customer_id", *home.people(600))
    words = ["erase", name, "--confirm", f"erase 600 from {home.target}", "--rate", "60", "--concurrency", "8"]
    before = home.call("privacy-toolkit runs list --json").json["runs"]
    started = home.fork(words)
    home.stack.callback(started.communicate)
    home.stack.callback(started.kill)
    while started.poll() is None and len(home.call("privacy-toolkit runs list --json").json["runs"]) == len(before):
        pass


def patrol(home):
    told(home)
    home.call("privacy-toolkit controls create")
    name = erased(home)
    home.says = {
        "17 5 * * *  privacy  ": "",
        "--reappeared RUN": "--reappeared latest",
        "DATE": "2026-12-31",
        "FILE": name,
    } | home.says


def receipts(home):
    signing(home)
    name = "requests.csv"
    home.call(f"privacy-toolkit erase {name}")
    home.call("privacy-toolkit export init-notice filled-in.toml")
    filled_in(home, "filled-in.toml")
    one = (home.folder / name).read_text().splitlines()[1].split(",")[0]
    home.file("my-id.txt", one)

    def handed_over():
        """Hand over the receipt that was made before: there is one of a name."""
        home.shell("rm -rf receipt-*")
        return "my-id.txt"

    home.says = {
        "--id-file FILE": lambda: f"--id-file {handed_over()}",
        "--notice FILE": "--notice filled-in.toml",
        "--state DIR": "--state state",
        "--row N": "--row 2",
    } | home.says
    home.says["sh check-receipt.sh my-id.txt"] = (
        "cd receipt-* && cp ../my-id.txt ../allowed_signers . && sh check-receipt.sh my-id.txt"
    )


def register(home):
    erased(home)
    home.says |= {"FILE": lambda: f"file-{home.number}"}


def unsettled(home):
    """Leave a run open: nobody is looked at again."""
    home.call(f"privacy-toolkit erase {home.request_list()} --verify none", 3)


def not_begun(home):
    """Leave a run open in which nothing was sent, since nobody is there; a file with their ids."""
    there, home.environment["PRIVACY_TOOLKIT_BASE_URL"] = (
        home.environment["PRIVACY_TOOLKIT_BASE_URL"],
        "http://127.0.0.1:9",
    )
    missed = home.request_list()
    home.call(f"privacy-toolkit erase {missed}", 3)
    home.environment["PRIVACY_TOOLKIT_BASE_URL"] = there
    home.says = {"--id-file FILE": f"--id-file {ids_of(home, missed)}"} | home.says


def reappeared(home):
    """Have a shop write a customer again who was erased, and a patrol find that."""
    name = erased(home)
    one = (home.folder / name).read_text().splitlines()[1].split(",")[0]
    write_profile(home.sandbox.base_url, one, {"Name": "Anna"})
    home.call("privacy-toolkit patrol latest", 3)


def report(home):
    erased(home)
    home.says["rows.parquet"] = home.pack() + "/rows.parquet"


def signed(home):
    signing(home)
    erased(home)
    home.says["ssh-keygen -Y verify -f allowed_signers"] = (
        f"cd {home.pack()} && ssh-keygen -Y verify -f {home.folder}/allowed_signers"
    )


def verify(home):
    approval(home)
    home.call("privacy-toolkit approve plan.json --key .ssh/id_ed25519")
    home.call("privacy-toolkit apply plan.json")
    home.says = {
        "--signers FILE": "--signers allowed_signers",
        "--chain DIR": "--chain state/packs",
        "ssh-keygen -Y verify -f allowed": f"cd {home.pack()} && ssh-keygen -Y verify -f {home.folder}/allowed",
        "sha256sum -c": f"cd {home.pack()} && sha256sum -c",
        "packs/20261123-080000-erase-0a1b2c": home.pack(),
        "--chain packs": "--chain state/packs",
    } | home.says


def state(home):
    erased(home)
    home.says = {"age1…": age_key(home)} | home.says


def upgrading(home):
    erased(home)
    home.says = {"age1…": age_key(home)} | home.says


def writes(home):
    one, other = home.people()
    home.file(
        "events.jsonl",
        body_of(
            "writes.md", '{"customer_id": "00123", "type": "bought", "attributes": {"amount": 19.9, "tags": ["a"]}}'
        ).strip(),
    )
    home.file("audiences.csv", body_of("writes.md", "customer_id,audienceId,action").strip())
    home.file("referrals.csv", "advocateProfileIntegrationId,campaignId", f"{one},1")
    home.file("profiles.csv", "customer_id,attributes.Name", f"{one},Anna", f"{other},Berta")
    home.file("sessions.csv", "session_id,profileId,state", f"session-{one},{one},open")
    kinds = {
        "referrals create ": "referrals.csv",
        "events track ": "events.jsonl",
        "profiles update ": "profiles.csv",
        "sessions update ": "sessions.csv",
        "audiences update ": "audiences.csv",
    }
    home.file("events-v1.csv", "customer_id,type,sessionId", f"{one},bought,session-{one}-1")
    home.says["events track ROWS --api v1"] = "events track events-v1.csv --api v1"
    home.says = (
        home.says
        | {f"{words}ROWS": words + name for words, name in kinds.items()}
        | {"FILE": lambda: f"out-{home.number}.csv"}
    )


#: What a page takes for granted.
SET_UPS = {
    f"{name}.md": made
    for name, made in {
        "access-package": access_package,
        "library": library,
        "objects": objects,
        "scale": scale,
        "shell": shell,
        "approval": approval,
        "console": console,
        "coupons": coupons,
        "deadlines": deadlines,
        "erasure": erasure,
        "export": export,
        "inputs": inputs,
        "letters": letters,
        "operations": operations,
        "patrol": patrol,
        "receipts": receipts,
        "register": register,
        "report": report,
        "signing": signed,
        "state": state,
        "upgrading": upgrading,
        "verify": verify,
        "writes": writes,
    }.items()
}
#: What a reader does before a block, as the text around it says.
BEFORE = {
    (
        "export.md",
        "privacy-toolkit export requests.csv --out packages --notice notice.toml --plan plan.json",
    ): lambda home: filled_in(home, "notice.toml"),
    ("inputs.md", "privacy-toolkit erase requests.csv --identify crm.csv --key-column E-Mail"): by_mail,
    (
        "letters.md",
        "privacy-toolkit letters latest --out letters --templates letter-templates --lang de",
    ): lambda home: filled_in(home, "letter-templates/letters.toml"),
    ("library.md", "from privacy_toolkit import Credentials, SyncClient"): back_again,
    ("patrol.md", "privacy-toolkit erase --reappeared RUN --plan again.json"): reappeared,
    ("register.md", "privacy-toolkit runs withdraw RUN --id-file FILE"): not_begun,
    ("scale.md", "privacy-toolkit erase requests.csv --detach"): workers,
    ("state.md", "privacy-toolkit runs resume RUN --restored"): unsettled,
    ("operations.md", "privacy-toolkit runs tune RUN --rate 50 --concurrency 8"): at_work,
}


@pytest.mark.parametrize("page", EXECUTED)
def test_every_command_of_a_page_works_as_it_is_written_there(page, home):
    SET_UPS.get(page, lambda _home: None)(home)
    for block in blocks(page):
        BEFORE.get(block.key, lambda _home: None)(home)
        if block.key not in NOT_TYPED:
            home.type(block)


def test_what_is_not_typed_is_still_there_and_has_a_reason():
    there = {block.key for page in PAGES for block in blocks(page)}
    assert set(NOT_TYPED) | set(BEFORE) <= there
    assert ONLY_IF_LONG | set(SET_UPS) <= set(PAGES)
    assert all(NOT_TYPED.values())
    languages = {found for path in PAGES.values() for _, found, _ in FENCE.findall(path.read_text("utf-8"))}
    assert languages <= LANGUAGES | {"json", "sql", "toml", "yaml"}, "who runs, or parses, these?"
    assert len(there) - len(NOT_TYPED) > 60
