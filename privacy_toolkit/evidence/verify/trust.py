"""Whose signature it is, and whether somebody vouches for that key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from privacy_toolkit.evidence.verify.findings import Code, SignerFound, Unusable
from privacy_toolkit.evidence.verify.folder import PackFolder
from privacy_toolkit.signatures.allowed import AllowedSigners
from privacy_toolkit.signatures.sshsig import BadSignature, verify

#: A signature is some 300 bytes; one of a hardware key a little more.
LARGEST_SIGNATURE = 16 * 1024


@dataclass(frozen=True, slots=True)
class Trust:
    """Who may sign, at which moment. ``signers`` None: it is not known who may."""

    signers: AllowedSigners | None
    at: datetime

    def judge(self, pack: PackFolder, signed: tuple[str, bytes], signature: str, namespace: str) -> SignerFound:
        """Verify the signature in the file ``signature`` over a file.

        Args:
            pack: the folder of both.
            signed: the name and the bytes of what should be signed.
            signature: the name of the file with the signature.
            namespace: what the signature should be for.

        Raises:
            Unusable: it does not hold; that was noted. A key that holds but is not allowed is noted and given back.
        """
        armored = pack.text(signature, LARGEST_SIGNATURE)
        try:
            key = verify(armored, signed[1], namespace)
        except BadSignature as error:
            pack.note(Code.BAD_SIGNATURE, signature, f"It is no good signature of {signed[0]}. {error.message}")
            raise Unusable from None
        if self.signers is None:
            return SignerFound(key.fingerprint)
        principals = tuple(self.signers.principals(key, namespace, self.at))
        if not principals:
            pack.note(
                Code.SIGNER_NOT_ALLOWED,
                signature,
                f"It was made with the key {key.fingerprint}, which the allowed signers don't allow now for"
                f" {namespace}.",
            )
        return SignerFound(key.fingerprint, principals, bool(principals))
