"""What can be wrong with evidence: a pack that is not what it should be, or one that can't be written."""

from __future__ import annotations

from privacy_toolkit.errors import ExitCode, ToolkitError


class BadPack(ToolkitError):  # noqa: N818 - it names what was found, as the word stands in reports and in the guides
    """Something of a pack is not what it should be: changed, damaged, or made by something else."""

    exit_code = ExitCode.VERIFICATION_FAILED
    code = "bad_pack"


class PackError(ToolkitError):
    """The pack can't be written where it should be: disk full, permissions."""

    exit_code = ExitCode.STOPPED
    code = "pack"


class ChainError(ToolkitError):
    """The record of all packs can't be gone on with: a part of it is missing, changed or can't be read."""

    exit_code = ExitCode.STOPPED
    code = "chain"
