"""Signatures in OpenSSH's format (SSHSIG): keys, signing, verifying, and who is allowed to sign."""
