"""The samples for schedulers: they are what they should be, and call what there is."""

import ast
import builtins
import dis
import os
import re
import runpy
import shlex
import subprocess
import sys
import types
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
import yaml

from privacy_toolkit import NotSettledError, Toolkit
from privacy_toolkit.cli.main import cli
from privacy_toolkit.core.model import UsageError
from privacy_toolkit.sandbox import start_in_thread
from privacy_toolkit.sandbox.store import SandboxSettings
from privacy_toolkit.sandbox.wire import seed

FOLDER = Path(__file__).parents[3] / "docs" / "scheduling"
DAG_FILE = FOLDER / "airflow" / "privacy_toolkit_export.py"
NIGHTLY = ["export", "--out", "--new-only", "--keep-days", "30", "--no-input", "--json"]
PROGRAM = "/opt/privacy-toolkit/bin/privacy-toolkit"


def unit(name):
    """The settings of a unit file: each key with its values in order."""
    found = {}
    for line in (FOLDER / "systemd" / name).read_text().splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def cron_lines():
    """The lines of the table that run something: five fields of time, the user, the command."""
    lines = (FOLDER / "cron" / "privacy-toolkit").read_text().splitlines()
    return [line.split(None, 6) for line in lines if re.match(r"[\d*]", line)]


def cronjob():
    return yaml.safe_load((FOLDER / "kubernetes" / "cronjob.yaml").read_text())


def pod():
    return cronjob()["spec"]["jobTemplate"]["spec"]["template"]["spec"]


class Tasks:
    """What the DAG needs of Airflow: it keeps each task's function, its settings, and what it is called with."""

    def __init__(self):
        self.functions, self.settings, self.arguments, self.order, self.dag = {}, {}, {}, [], {}

    def modules(self):
        sdk = types.ModuleType("airflow.sdk")
        sdk.DAG, sdk.task = self._make_dag, types.SimpleNamespace(external_python=self._external_python)
        return {"airflow": types.ModuleType("airflow"), "airflow.sdk": sdk}

    def _make_dag(self, **arguments):
        self.dag = arguments
        return nullcontext()

    def _external_python(self, **settings):
        def decorate(function):
            name = function.__name__
            self.functions[name], self.settings[name] = function, settings

            def call(*arguments):
                self.arguments[name] = arguments
                return Called(name, self.order)

            return call

        return decorate


@dataclass(frozen=True)
class Called:
    """A task of the DAG; ``first >> second`` notes the order."""

    name: str
    order: list

    def __rshift__(self, other):
        self.order.append((self.name, other.name))
        return other


@pytest.fixture
def airflow(monkeypatch):
    """The DAG as Airflow reads it."""
    tasks = Tasks()
    for name, module in tasks.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    runpy.run_path(str(DAG_FILE))
    return tasks


def script_command():
    text = (FOLDER / "cron" / "nightly.sh").read_text().replace("\\\n", " ")
    (line,) = [line for line in text.splitlines() if line.startswith('"$toolkit"')]
    return shlex.split(re.split(r"\s[<>|]", line)[0])


def readme_commands():
    blocks = re.findall(r"```\n(.*?)```|`(privacy-toolkit [^`]+)`", (FOLDER / "README.md").read_text(), re.DOTALL)
    return [shlex.split(block or inline) for block, inline in blocks]


def commands():
    """Every call of the toolkit in the samples, program first."""
    return {
        "systemd": shlex.split(unit("privacy-toolkit-export.service")["ExecStart"][0]),
        "cron due": shlex.split(cron_lines()[1][-1]),
        "cron script": script_command(),
        "kubernetes": pod()["containers"][0]["command"],
        **{f"README {' '.join(command[1:3])}": command for command in readme_commands()},
    }


@pytest.mark.parametrize("name", commands())
def test_every_command_and_option_of_a_sample_exists(name):
    arguments = commands()[name][1:]
    command, context = cli, click.Context(cli)
    while isinstance(command, click.Group) and arguments:
        word = arguments.pop(0)
        found = command.get_command(context, word)
        assert found is not None, word
        command = found
    known = {name for option in command.params for name in option.opts}
    assert {word for word in arguments if word.startswith("-")} <= known


@pytest.mark.parametrize("name", ["systemd", "cron script", "kubernetes", "README export REQUESTS"])
def test_every_sample_runs_the_nightly_command(name):
    _, job, requests, option, folder, *others = commands()[name]
    assert [job, option, *others] == NIGHTLY
    assert requests
    assert folder


# systemd


@pytest.fixture
def verified(systemd_analyze, tmp_path):
    """Checks copies of the units whose program is one that exists here."""

    def check(**changes):
        for path in (FOLDER / "systemd").iterdir():
            text = path.read_text().replace(PROGRAM, "/bin/true")
            for old, new in changes.get(path.suffix[1:], ()):
                assert old in text
                text = text.replace(old, new)
            (tmp_path / path.name).write_text(text)
        units = sorted(map(str, tmp_path.glob("*.*")))
        done = subprocess.run([systemd_analyze, "verify", *units], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return check


def test_systemd_finds_nothing_wrong_with_the_units(verified):
    assert verified() == (0, "")


def test_systemd_would_find_what_is_wrong(verified):
    code, said = verified(service=[("ProtectHome", "ProtectHomes")], timer=[("02:15", "26:15")])
    assert (code, "ProtectHomes" in said, "26:15" in said) != (0, False, False)


def test_the_service_is_confined(systemd_analyze):
    """As far as systemd counts it: 0 is nothing allowed, 10 everything."""
    command = [systemd_analyze, "security", "--offline=yes", "--threshold=20", "--no-pager"]
    done = subprocess.run(
        [*command, str(FOLDER / "systemd" / "privacy-toolkit-export.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-200:] + done.stderr


def test_the_service_holds_its_secrets_and_its_state_apart():
    service = unit("privacy-toolkit-export.service")
    assert service["Type"] == ["oneshot"]
    assert service["NoNewPrivileges"] == ["yes"]
    assert service["ProtectSystem"] == ["strict"]
    assert service["StateDirectoryMode"] == ["0700"]
    assert "PRIVACY_TOOLKIT_API_KEY_FILE=%d/talon-one" in service["Environment"]
    folder = commands()["systemd"][4]
    assert folder in service["ReadWritePaths"]
    assert unit("privacy-toolkit-export.timer")["Persistent"] == ["yes"]


# cron


def test_the_table_of_cron_has_times_a_user_and_a_lock():
    nightly, due = cron_lines()
    for *times, user, _ in (nightly, due):
        assert all(re.fullmatch(r"[\d*,/-]+", field) for field in times)
        assert user == "privacy-toolkit"
    flock, *options, lock, script = shlex.split(nightly[-1])
    assert (flock, options) == ("flock", ["--nonblock", "--conflict-exit-code", "5"])
    assert lock.endswith(".lock")
    assert Path(script).name == "nightly.sh"
    assert not any("%" in line[-1] for line in (nightly, due))  # a line break, to cron


@pytest.fixture
def nightly(tmp_path):
    """Runs the script with a program that keeps its arguments, prints, and ends as told."""
    toolkit = tmp_path / "toolkit"
    toolkit.write_text('#!/bin/sh\necho "$@" > "$ARGUMENTS"\necho \'{"verdict": "v"}\'\necho heard >&2\nexit "$CODE"\n')
    toolkit.chmod(0o755)

    def run(code, before=()):
        environment = {
            **os.environ,
            "TOOLKIT": str(toolkit),
            "REQUESTS": "in put.csv",
            "PACKAGES": "out",
            "PRIVACY_TOOLKIT_STATE": str(tmp_path),
            "ARGUMENTS": str(tmp_path / "arguments"),
            "CODE": str(code),
        }
        script = str(FOLDER / "cron" / "nightly.sh")
        return subprocess.run([*before, script], env=environment, capture_output=True, text=True, check=False)

    return run


def test_the_script_is_quiet_while_all_is_well(nightly, tmp_path):
    done = nightly(0)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    arguments = (tmp_path / "arguments").read_text().strip()
    assert arguments == "export in put.csv --out out --new-only --keep-days 30 --no-input --json"
    assert (tmp_path / "nightly.json").read_text() == '{"verdict": "v"}\n'
    assert (tmp_path / "nightly.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 7])
def test_the_script_tells_all_and_hands_on_the_exit_code(nightly, code):
    done = nightly(code)
    assert done.returncode == code
    assert done.stdout == f'The nightly export ended with exit code {code}.\nheard\n{{"verdict": "v"}}\n'


def test_a_second_one_ends_with_the_code_of_a_held_lock(nightly, tmp_path):
    flock = shlex.split(cron_lines()[0][-1])[:4]
    lock = str(tmp_path / "nightly.lock")
    assert nightly(0, before=[*flock, lock]).returncode == 0
    assert nightly(0, before=["flock", lock, *flock, lock]).returncode == 5


# Kubernetes


def test_the_cronjob_runs_one_at_a_time_and_is_not_repeated():
    spec = cronjob()["spec"]
    assert (cronjob()["apiVersion"], cronjob()["kind"]) == ("batch/v1", "CronJob")
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["jobTemplate"]["spec"]["backoffLimit"] == 0
    assert pod()["restartPolicy"] == "Never"
    assert len(spec["schedule"].split()) == 5


def test_the_pod_is_confined():
    context = pod()["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod()["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod())
    for container in [*pod()["initContainers"], *pod()["containers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]


def test_secrets_are_mounted_and_not_in_the_environment():
    for container in [*pod()["initContainers"], *pod()["containers"]]:
        assert "envFrom" not in container
        assert all(set(variable) == {"name", "value"} for variable in container.get("env", ()))
        (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "secrets"]
        assert mount["readOnly"] is True
    (volume,) = [volume for volume in pod()["volumes"] if volume["name"] == "secrets"]
    assert volume["secret"]["defaultMode"] == 0o400  # anything else of what Kubernetes gives could be refused


def test_every_mount_has_its_volume_and_what_is_written_has_a_writable_place():
    volumes = {volume["name"] for volume in pod()["volumes"]}
    export = pod()["containers"][0]
    mounts = {mount["mountPath"]: mount for mount in export["volumeMounts"]}
    assert {mount["name"] for mount in mounts.values()} <= volumes
    environment = {variable["name"]: variable["value"] for variable in export["env"]}
    for folder in ("/tmp/x", export["command"][4], environment["PRIVACY_TOOLKIT_STATE"]):  # noqa: S108 - in the pod
        (mount,) = [mount for path, mount in mounts.items() if folder.startswith(f"{path}/")]
        assert not mount.get("readOnly")


# Airflow


def test_where_the_dag_is_parsed_nothing_of_the_toolkit_is_needed():
    tree = ast.parse(DAG_FILE.read_text())
    outside = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert outside == {"datetime", "airflow.sdk"}
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import)]


def test_a_task_needs_nothing_but_its_arguments(airflow):
    """Airflow hands the source of the function alone to the other Python."""
    for function in airflow.functions.values():
        loaded = {step.argval for step in dis.get_instructions(function) if step.opname == "LOAD_GLOBAL"}
        assert loaded <= set(dir(builtins))


def test_the_dag_runs_one_at_a_time_and_makes_up_for_nothing(airflow):
    assert (airflow.dag["catchup"], airflow.dag["max_active_runs"]) == (False, 1)
    assert airflow.dag["default_args"] == {"retries": 0}
    assert airflow.order == [("export", "due")]
    assert airflow.settings["due"]["trigger_rule"] == "all_done"
    for settings in airflow.settings.values():
        assert settings["python"] == str(Path(PROGRAM).with_name("python"))
        assert (settings["do_xcom_push"], settings["expect_airflow"]) == (False, False)


@pytest.fixture
def night(airflow, tmp_path, monkeypatch):
    """Runs the tasks of the DAG as Airflow would, on a list and folders of the test's own."""
    requests, config = tmp_path / "requests.csv", tmp_path / "privacy-toolkit.toml"
    with start_in_thread(SandboxSettings()) as sandbox:
        seed(sandbox.store, 2, ids=["customer-1", "customer-2"])
        monkeypatch.setenv("PRIVACY_TOOLKIT_API_KEY", "sandbox-key")
        config.write_text(f'[profiles.default]\nbase_url = "{sandbox.base_url}"\n')
        places = {
            "/srv/privacy-toolkit/requests.csv": requests,
            "/srv/privacy-toolkit/packages": tmp_path / "packages",
            "/etc/privacy-toolkit/privacy-toolkit.toml": config,
            "/var/lib/privacy-toolkit": tmp_path / "state",
        }

        def run(name, rows=()):
            requests.write_text("\n".join(["customer_id,requested_at", *rows, ""]))
            airflow.functions[name](*(str(places[argument]) for argument in airflow.arguments[name]))

        yield run


def test_the_dag_exports_who_is_new_and_a_night_without_anybody_new_is_no_failure(night, tmp_path):
    today = datetime.now(UTC).date().isoformat()
    for rows in ([f"customer-1,{today}"], [f"customer-1,{today}"], [f"customer-1,{today}", f"customer-2,{today}"]):
        night("export", rows)
        night("due", rows)
    plans = [run.summary().plan for run in Toolkit(state=tmp_path / "state").runs()]
    assert [plan.rows.subjects - plan.rows.held for plan in plans] == [1, 0, 1]
    assert {(plan.parameters["new_only"], plan.parameters["keep_days"]) for plan in plans} == {(True, 30)}
    assert len([path for path in (tmp_path / "packages").iterdir() if not path.name.startswith(".")]) == 2


def test_the_tasks_fail_where_a_person_has_to_look(night):
    with pytest.raises(NotSettledError):
        night("export", ["customer-1,2026-01-01", " ,2026-01-01"])
    with pytest.raises(UsageError):
        night("export", ["customer-1"])
    night("due")


# Prometheus


def test_the_metrics_of_the_alerts_exist():
    from privacy_toolkit.notify import telling as textfile  # noqa: PLC0415 - the private table is looked into here only

    named = set(re.findall(r"privacy_toolkit_\w+", (FOLDER / "README.md").read_text()))
    assert named - {"privacy_toolkit_export"} <= set(textfile._METRICS)
