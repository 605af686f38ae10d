"""Certificates for the tests: authorities, and what they vouch for."""

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """Signs certificates; each comes as a pair of files in ``folder``."""

    def __init__(self, folder, name):
        self.folder, self.name = folder, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign(name, self.key, authority=True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name, *, days=2, password=None):
        """A certificate for a host, an address or a client, good until in so many days; its file, and its key's."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._sign(name, key, days=days)
        paths = self.folder / f"{self.name}-{name}-{days}.pem", self.folder / f"{self.name}-{name}-{days}-key.pem"
        paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
        closed = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
        form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, closed
        paths[1].touch(0o600)
        paths[1].write_bytes(key.private_bytes(*form))
        return paths

    def serving(self, name="localhost", *, days=2, clients=None):
        """What a server takes whose certificate is for a name; ``clients`` vouches for those who may connect."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue(name, days=days))
        if clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(clients.file)
        return context

    def _sign(self, name, key, *, days=2, authority=False):
        now = datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer, signing = (subject, key) if authority else (self.certificate.subject, self.key)
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign"), False
        ) | {"encipher_only": False, "decipher_only": False}
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=20))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.KeyUsage(digital_signature=not authority, key_cert_sign=authority, **usage), critical=True
            )
        )
        if not authority:
            above = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
            made = made.add_extension(above, critical=False)
            made = made.add_extension(x509.SubjectAlternativeName([_name(name)]), critical=False)
        return made.sign(signing, hashes.SHA256())


def _name(name):
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
