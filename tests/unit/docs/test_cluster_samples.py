"""The samples for a cluster: image, compose file, Kubernetes manifests and a unit, each held by a tool for its kind."""

import os
import re
import shlex
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import kubernetes_validate
import psycopg
import pytest
import yaml

from privacy_toolkit.cli.main import cli
from privacy_toolkit.config.settings import Flags, load_settings
from tests.support import postgres
from tests.support.lengths import IS_LONG

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "docs" / "samples" / "cluster"
MANIFESTS = sorted((FOLDER / "kubernetes").glob("*.yaml"))
UNIT = FOLDER / "systemd" / "privacy-toolkit-worker@.service"
CONTAINERFILE = FOLDER / "Containerfile"
IMAGE = "privacy-toolkit:0.3.0"
#: The only places of the image where anything may be written.
WRITABLE = ("/data", "/tmp")  # noqa: S108 - in the container


def instructions():
    """The instructions of the Containerfile, with lines that go on put together."""
    text = re.sub(r"\\\n", " ", CONTAINERFILE.read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(None, 1)) for line in lines]


def compose():
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())


def documents():
    """Every manifest as an object, by its kind and name."""
    found = {}
    for path in MANIFESTS:
        for one in yaml.safe_load_all(path.read_text()):
            found[f"{one['kind']}/{one['metadata']['name']}"] = one
    return found


def pods():
    return {
        name: one["spec"]["template"]["spec"]
        for name, one in documents().items()
        if one["kind"] in {"Deployment", "Job"}
    }


def unit():
    found = {}
    for line in UNIT.read_text().splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def commands():
    """Every call of the toolkit in the samples, without the program."""
    said = {
        "image": yaml.safe_load(dict(instructions())["CMD"]),
        "unit": shlex.split(unit()["ExecStart"][0])[1:],
        "compose worker": compose()["services"]["worker"]["command"],
        "worker": pods()["Deployment/privacy-toolkit-worker"]["containers"][0]["args"],
        "apply": pods()["Job/privacy-toolkit-apply"]["containers"][0]["args"],
    }
    scripts = [
        compose()["services"]["migrate"]["command"][0],
        pods()["Job/privacy-toolkit-migrate"]["containers"][0]["args"][0],
        *re.findall(r"# .*?(privacy-toolkit runs watch \S+)", (FOLDER / "kubernetes" / "apply.yaml").read_text()),
    ]
    for line in "\n".join(scripts).splitlines():
        said[line] = shlex.split(line)[1:]
    (health,) = [text for name, text in instructions() if name == "HEALTHCHECK"]
    said["health"] = yaml.safe_load(health[health.index("[") :])[1:]
    return said


@pytest.mark.parametrize("name", commands())
def test_every_command_and_option_of_a_sample_exists(name):
    arguments = list(commands()[name])
    command, context = cli, click.Context(cli)
    while isinstance(command, click.Group) and arguments:
        word = arguments.pop(0)
        found = command.get_command(context, word)
        assert found is not None, word
        command = found
    known = {name for option in command.params for name in option.opts}
    assert {word for word in arguments if word.startswith("--")} <= known


def test_the_configuration_is_one_that_is_read_with_its_secrets_in_files(tmp_path, monkeypatch):
    monkeypatch.delenv("PRIVACY_TOOLKIT_STATE")
    text = (FOLDER / "privacy-toolkit.toml").read_text()
    named = re.findall(r'"/run/secrets/([a-z-]+)"', text)
    text = text.replace("/etc/privacy-toolkit/", f"{tmp_path}/")
    (tmp_path / "allowed_signers").write_text("")
    for name in named:
        (tmp_path / name).write_text("5e" * 32 + "\n")
        (tmp_path / name).chmod(0o400)
    path = tmp_path / "privacy-toolkit.toml"
    path.write_text(text.replace("/run/secrets", str(tmp_path)))
    for profile, role in (("default", "toolkit"), ("operator", "toolkit"), ("owner", "toolkit_owner")):
        settings = load_settings(Flags(config=str(path), profile=profile, state=None))
        assert settings.is_in_database
        assert str(settings.state).endswith(f"user={role}")
    assert set(compose()["secrets"]) == set(named)
    assert tomllib.loads(text)["state"]["orders"] == "signed"
    assert [name for name, one in tomllib.loads(text)["profiles"].items() if "signing_key" in one] == ["operator"]
    assert not re.search(r"(?i)password\s*=\s*\"[^{]", text)
    assert tomllib.loads(text)["profiles"]["owner"].keys().isdisjoint({"api_key"})


# The image.


def test_the_linter_of_container_files_finds_nothing():
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, "--no-color", CONTAINERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_is_not_root_has_no_secret_and_installs_by_hashes_alone():
    last = [name for name, _ in instructions()][::-1].index("FROM")
    final = instructions()[-last - 1 :]
    assert ("USER", "10001:10001") in final
    assert not [text for name, text in final if name in {"RUN", "ADD", "EXPOSE", "VOLUME"}]
    assert [text for name, text in final if name == "COPY"] == [
        "--from=build /opt/privacy-toolkit /opt/privacy-toolkit"
    ]
    said = "\n".join(f"{name} {text}" for name, text in instructions())
    assert not re.search(r"(?i)(api_key|password|secret|token)\s*=|index-url|https?://", said)
    assert "ADD " not in said
    for name, text in instructions():
        if name == "RUN" and "pip install" in text:
            assert "--no-index" in text or {"--require-hashes", "--only-binary"} <= set(text.split())
    (base,) = [text for name, text in instructions() if name == "ARG"]
    assert not base.endswith(":latest")
    assert all(text.startswith("${BASE}") for name, text in instructions() if name == "FROM")


def test_what_is_copied_is_there_and_nothing_else_gets_into_the_build():
    wanted = set()
    for name, text in instructions():
        if name == "COPY" and "--from" not in text:
            *sources, _ = text.split()
            wanted |= set(sources)
    assert all((ROOT / source).exists() for source in wanted)
    ignored = (FOLDER / "Containerfile.dockerignore").read_text().split()
    assert ignored[0] == "*"
    assert {line[1:] for line in ignored if line[0] == "!"} == wanted


def test_the_steps_of_the_build_are_run_one_by_one(tmp_path):
    """In folders of the test's own in the place of /opt and /build. What has to be installed from outside comes in full
    with ``make chaos``; else what this very environment has stands for it."""

    def here(text):
        return re.sub(r"(?<![\w.])/(opt|build)\b", lambda found: str(tmp_path / found[1]), text)

    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    for name, text in instructions():
        if name == "COPY" and "--from" not in text:
            *sources, target = text.split()
            Path(here(target)).mkdir(parents=True, exist_ok=True)
            for source in sources:
                into = here(target) if (ROOT / source).is_file() else Path(here(target)).parent
                subprocess.run(["cp", "-r", str(ROOT / source), str(into)], check=True)
        elif name == "RUN":
            step = here(text)
            if "--require-hashes" in step and not IS_LONG:
                site = next(
                    (tmp_path / step.split("/bin/")[0].removeprefix(f"{tmp_path}/")).glob("lib/*/site-packages")
                )
                (site / "borrowed.pth").write_text(next(path for path in sys.path if path.endswith("site-packages")))
                continue
            done = subprocess.run(["sh", "-ec", step], env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
    program = tmp_path / "opt" / "privacy-toolkit" / "bin" / "privacy-toolkit"
    done = subprocess.run([program, "--version"], env=environment, capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.startswith("privacy-toolkit, version ")
    assert not (program.parent / "pip").exists()
    package = next((tmp_path / "opt" / "privacy-toolkit").glob("lib/*/site-packages/privacy_toolkit"))
    assert (package / "reporting" / "templates").is_dir()  # from reports/, by the wheel


# The compose file.


def test_the_services_are_those_that_are_needed_and_confined():
    services = compose()["services"]
    assert list(services) == ["db", "migrate", "worker", "operator"]
    for name in ("migrate", "worker", "operator"):
        service = services[name]
        assert (service["image"], service["user"], service["read_only"]) == (IMAGE, "10001:10001", True)
        assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"])
        assert not {"ports", "privileged", "env_file"} & set(service)
        assert not any("KEY" in variable or "PASSWORD" in variable for variable in service["environment"])
    worker = services["worker"]
    assert (worker["stop_grace_period"], worker["deploy"]["replicas"]) == ("60s", 3)
    assert worker["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    assert services["migrate"]["depends_on"]["db"]["condition"] == "service_healthy"
    assert services["db"]["image"].endswith("/postgres:16")
    assert "--data-checksums" in services["db"]["environment"]["POSTGRES_INITDB_ARGS"]
    assert "ports" not in services["db"]


def test_secrets_are_files_and_each_service_has_only_its_own():
    services = compose()["services"]
    assert services["worker"]["secrets"] == ["talon-one", "state-password", "state-key"]
    assert services["operator"]["secrets"] == [*services["worker"]["secrets"], "signing-key"]
    assert services["operator"]["profiles"] == ["operator"]  # it is not started with the others
    assert services["migrate"]["secrets"] == ["owner-password"]
    assert all(set(one) == {"file"} for one in compose()["secrets"].values())


def test_every_place_of_the_compose_file_is_there():
    named = set(compose()["volumes"])
    for service in compose()["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            is_yours = source == "./allowed_signers"  # as the secrets are
            assert is_yours or source in named or (FOLDER / source).exists(), source


def test_the_database_makes_the_role_that_workers_have_and_migrate_gives_it_its_rights(tmp_path, monkeypatch):
    postgres.needed()
    server = postgres.shared()
    with psycopg.connect(server.address("postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS sample WITH (FORCE)")
        connection.execute("CREATE DATABASE sample")
        connection.execute("DROP ROLE IF EXISTS toolkit_of_sample")
    script = (FOLDER / "roles.sh").read_text().replace("ROLE toolkit ", "ROLE toolkit_of_sample ")
    (tmp_path / "password").write_text("it's a secret")
    (tmp_path / "roles.sh").write_text(script)
    environment = {
        "PATH": f"{server.programs}:{os.environ['PATH']}",
        "PGHOST": "127.0.0.1",
        "PGPORT": str(server.port),
        "POSTGRES_USER": "toolkit",
        "POSTGRES_DB": "sample",
        "STATE_PASSWORD_FILE": str(tmp_path / "password"),
    }
    done = subprocess.run(["sh", tmp_path / "roles.sh"], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    config = (FOLDER / "privacy-toolkit.toml").read_text().replace("/run/secrets", str(tmp_path))
    config = re.sub(r'"postgresql:[^"]*"', f'"{server.address("sample")}"', config)
    (tmp_path / "privacy-toolkit.toml").write_text(config)
    (tmp_path / "owner-password").write_text("not asked for\n")  # alone: this step has no other secret
    (tmp_path / "owner-password").chmod(0o400)
    monkeypatch.delenv("PRIVACY_TOOLKIT_STATE")
    for line in compose()["services"]["migrate"]["command"][0].splitlines():
        _, *arguments = shlex.split(line.replace("--to toolkit", "--to toolkit_of_sample"))
        done = _call(*arguments, "--config", tmp_path / "privacy-toolkit.toml")
        assert done.returncode == 0, done.stderr
    with psycopg.connect(server.address("sample"), autocommit=True) as connection:
        (may,) = connection.execute(
            "SELECT has_table_privilege('toolkit_of_sample', 'toolkit.runs', 'INSERT')"
        ).fetchone()
        connection.execute("DROP OWNED BY toolkit_of_sample")
        connection.execute("DROP ROLE toolkit_of_sample")
    assert may


def _call(*arguments):
    command = [sys.executable, "-m", "privacy_toolkit", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_script_is_one_that_shells_and_their_linter_take():
    assert (FOLDER / "roles.sh").stat().st_mode & stat.S_IXUSR
    assert subprocess.run(["sh", "-n", FOLDER / "roles.sh"], check=False).returncode == 0


# Kubernetes.


@pytest.mark.parametrize("name", documents())
@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
def test_the_manifests_are_valid_by_the_schemas_of_kubernetes(name, version):
    kubernetes_validate.validate(documents()[name], version, strict=True)


def test_a_manifest_with_a_fault_would_be_found():
    broken = documents()["Deployment/privacy-toolkit-worker"]
    broken["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, "1.30", strict=True)


@pytest.mark.parametrize("name", pods())
def test_a_pod_is_confined_and_has_its_secrets_in_files(name):
    pod = pods()[name]
    assert pod["automountServiceAccountToken"] is False
    assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 10001)
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["image"] == IMAGE
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in container["resources"]["limits"]
    assert all(set(variable) == {"name", "value"} for variable in container["env"])
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for mount in container["volumeMounts"]:
        assert mount["name"] in volumes
        assert mount.get("readOnly") or mount["mountPath"] in WRITABLE
    assert {mount["mountPath"] for mount in container["volumeMounts"]} >= set(WRITABLE)
    assert all(volume["secret"]["defaultMode"] == 0o400 for volume in volumes.values() if "secret" in volume)


def test_workers_are_stopped_in_order_and_one_at_a_time():
    found = documents()
    worker = found["Deployment/privacy-toolkit-worker"]
    assert pods()["Deployment/privacy-toolkit-worker"]["terminationGracePeriodSeconds"] == 60
    labels = worker["spec"]["template"]["metadata"]["labels"]
    assert worker["spec"]["selector"]["matchLabels"] == labels
    budget = found["PodDisruptionBudget/privacy-toolkit-worker"]["spec"]
    assert (budget["maxUnavailable"], budget["selector"]["matchLabels"]) == (1, labels)


def test_the_network_lets_nothing_in_and_to_api_database_and_names_out():
    policy = documents()["NetworkPolicy/privacy-toolkit"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == []
    assert [sorted(port["port"] for port in rule["ports"]) for rule in policy["egress"]] == [[53, 53], [443], [5432]]
    for name, one in documents().items():
        if name in pods():
            labels = one["spec"]["template"]["metadata"]["labels"]
            assert policy["podSelector"]["matchLabels"].items() <= labels.items()


def test_only_the_owner_of_the_tables_has_the_password_of_theirs():
    secrets = {
        name: [volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume]
        for name, pod in pods().items()
    }
    assert secrets == {
        "Deployment/privacy-toolkit-worker": ["privacy-toolkit"],
        "Job/privacy-toolkit-migrate": ["privacy-toolkit-owner"],
        "Job/privacy-toolkit-apply": ["privacy-toolkit-operator"],
    }
    assert documents()["Job/privacy-toolkit-apply"]["spec"]["backoffLimit"] == 0


# systemd.


def test_systemd_finds_nothing_wrong_with_the_unit_and_it_is_confined(systemd_analyze, tmp_path):
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace("/opt/privacy-toolkit/bin/privacy-toolkit", "/bin/true"))
    done = subprocess.run([systemd_analyze, "verify", "--man=no", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    safe = subprocess.run(
        [systemd_analyze, "security", "--offline=yes", "--threshold=20", "--no-pager", path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert safe.returncode == 0, safe.stdout[-200:] + safe.stderr


def test_systemd_lets_what_is_in_flight_finish_and_does_not_repeat_what_is_for_a_person():
    service = unit()
    assert (service["Restart"], service["TimeoutStopSec"], service["KillMode"]) == (["always"], ["60"], ["mixed"])
    assert service["RestartPreventExitStatus"] == ["2 7"]  # settings, and refused keys
    assert service["DynamicUser"] == ["yes"]
    assert {one.partition(":")[0] for one in service["LoadCredential"]} == {"talon-one", "state-password", "state-key"}
