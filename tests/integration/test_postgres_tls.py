"""A database that is reached over a network: its certificate is verified, and what is wrong with it is said."""

import shutil
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from privacy_toolkit.core.model import JournalError, UsageError
from privacy_toolkit.journal.postgres.connection import Database
from tests.support import postgres

NAME = "db.example.org"
TODAY = datetime.now(UTC)


def _certificate(name, key, issuer, issuer_key, until, *, is_authority):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(TODAY - timedelta(days=20))
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if not is_authority:
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    return made.sign(issuer_key, hashes.SHA256())


def _key():
    return ec.generate_private_key(ec.SECP256R1())


def _pem(path, *certificates):
    path.write_bytes(b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates))
    return path


@pytest.fixture(scope="module")
def authorities(tmp_path_factory):
    """Two authorities: key, certificate and file of each."""
    folder, found = tmp_path_factory.mktemp("authorities"), []
    for number in range(2):
        key = _key()
        made = _certificate(f"authority-{number}", key, None, key, TODAY + timedelta(days=2), is_authority=True)
        found.append((key, made, _pem(folder / f"{number}.crt", made)))
    return found


@pytest.fixture(scope="module")
def server():
    """A server that has the certificate that it is given; see ``certified``."""
    with postgres.running() as running:
        yield running


@pytest.fixture
def certified(server, authorities):
    """Give the server a certificate for a name, until a day, by the first authority."""

    def certify(name=NAME, until=TODAY + timedelta(days=2)):
        issuer_key, issuer, _ = authorities[0]
        key = _key()
        made = _certificate(name, key, issuer, issuer_key, until, is_authority=False)
        private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        (server.data / "server.key").write_bytes(key.private_bytes(*private))
        (server.data / "server.key").chmod(0o600)
        _pem(server.data / "server.crt", made)
        with suppress(PermissionError, LookupError):
            for file in ("server.key", "server.crt"):
                shutil.chown(server.data / file, "nobody", "nogroup")
        plain = Database(server.address("postgres"))
        plain.rows("ALTER SYSTEM SET ssl = on")
        plain.rows("SELECT pg_reload_conf()")
        for _ in range(200):  # the postmaster takes it up when it gets the signal
            with plain.connect() as connection:
                if connection.execute("SHOW ssl").fetchone() == ("on",) and _served(server) == made:
                    return
        pytest.fail("The server did not take its certificate up.")

    return certify


def _served(server):
    """The certificate that the server shows now."""
    command = ["openssl", "s_client", "-starttls", "postgres", "-connect", f"127.0.0.1:{server.port}"]
    shown = subprocess.run(command, check=False, capture_output=True, stdin=subprocess.DEVNULL).stdout
    with suppress(ValueError):
        return x509.load_pem_x509_certificate(shown[shown.find(b"-----BEGIN") :])
    return None


def database(server, authority, name=NAME):
    """The database by a name that is not of this machine, at the address of this machine."""
    _, _, file = authority
    return Database(
        f"postgresql://toolkit@{name}:{server.port}/postgres?hostaddr=127.0.0.1&sslrootcert={file}&gssencmode=disable"
    )


def test_a_certificate_by_the_right_authority_for_the_right_name(server, authorities, certified):
    certified()
    with database(server, authorities[0]).connect() as connection:
        assert connection.pgconn.ssl_in_use
        assert connection.info.get_parameters()["sslmode"] == "verify-full"


def test_a_certificate_by_another_authority(server, authorities, certified):
    certified()
    with pytest.raises(JournalError, match="is not by the authority in sslrootcert") as refused:
        database(server, authorities[1]).connect()
    assert "Set sslrootcert" in str(refused.value.hint)


def test_a_certificate_by_no_authority_that_the_system_trusts(server, certified):
    certified()
    address = f"postgresql://toolkit@{NAME}:{server.port}/postgres?hostaddr=127.0.0.1&sslrootcert=system"
    with pytest.raises(JournalError, match="is not by an authority that this system trusts"):
        Database(address).connect()


def test_a_certificate_for_another_name(server, authorities, certified):
    certified(name="other.example.org")
    with pytest.raises(JournalError, match=f"is for another name than {NAME}") as refused:
        database(server, authorities[0]).connect()
    assert "Name the host" in str(refused.value.hint)


def test_a_certificate_that_has_expired(server, authorities, certified):
    certified(until=TODAY - timedelta(days=1))
    with pytest.raises(JournalError, match="has expired") as refused:
        database(server, authorities[0]).connect()
    assert "renewed" in str(refused.value.hint)


def test_a_server_without_tls(server, authorities):
    plain = Database(server.address("postgres"))
    plain.rows("ALTER SYSTEM SET ssl = off")
    plain.rows("SELECT pg_reload_conf()")
    for _ in range(200):
        with plain.connect() as connection:
            if connection.execute("SHOW ssl").fetchone() == ("off",):
                break
    with pytest.raises(JournalError, match="server does not support SSL"):
        database(server, authorities[0]).connect()


def test_no_address_and_no_service_file_asks_for_less(server, authorities, certified, tmp_path, monkeypatch):
    certified()
    for mode in ("require", "verify-ca", "prefer", "allow", "disable"):
        with pytest.raises(UsageError, match="certificate has to be verified"):
            Database(f"postgresql://toolkit@{NAME}:{server.port}/postgres?hostaddr=127.0.0.1&sslmode={mode}")
    service = tmp_path / "services"
    service.write_text(
        f"[toolkit]\nhost={NAME}\nhostaddr=127.0.0.1\nport={server.port}\nuser=toolkit\ndbname=postgres\nsslmode=require\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(service))
    with pytest.raises(UsageError, match="certificate has to be verified"):
        Database("postgresql:///?service=toolkit").connect()


def test_the_command_line_says_it_in_a_sentence(server, authorities, certified, tmp_path):
    certified(name="other.example.org")
    address = database(server, authorities[0]).address
    command = [sys.executable, "-m", "privacy_toolkit", "runs", "list", "--state", address]
    said = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert said.returncode == 4
    assert f"its certificate is for another name than {NAME}." in said.stderr
    assert "Traceback" not in said.stderr
