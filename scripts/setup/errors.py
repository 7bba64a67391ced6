"""What can stop a setup: always one sentence that ends in a way on."""

from __future__ import annotations

import re


class SetupError(RuntimeError):
    """The message is for the user: what is missing, and the command that mends it."""


# What tools print -> what the user should do. The first that matches speaks.
_KNOWN = [
    (
        r"No space left on device|os error 28",
        "The disk is full: free some space (`uv cache prune` gives back what no environment uses) "
        "and run `make setup` again.",
    ),
    (
        r"[Hh]ash mismatch|DO NOT MATCH THE HASHES|does not match the hash",
        "A downloaded file is not the one in the lock: the mirror or proxy altered it; "
        "use another one and run `make setup` again.",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|invalid peer certificate|UnknownIssuer",
        "The certificate of the package registry is not trusted: behind a company proxy set SSL_CERT_FILE to its CA "
        "file and run `make setup` again.",
    ),
    (
        r"dns error|name resolution|Name or service not known|error sending request|Failed to fetch|Could not connect"
        r"|Connection refused|Network is unreachable|NewConnectionError|[Tt]imed? ?out",
        "A package registry cannot be reached: check the network or the proxy (HTTPS_PROXY) and run `make setup` "
        "again; what was downloaded is kept.",
    ),
    (
        r"fatal error: Python\.h",
        "Python's headers are missing: apt install python3.10-dev, dnf install python3.10-devel, "
        "or without root `uv python install 3.10`; then run `make setup` again.",
    ),
    (
        r"Killed signal terminated program|cannot allocate memory|Cannot allocate memory",
        "The compiler ran out of memory: run `MAX_JOBS=1 make setup`, which continues with what is compiled.",
    ),
]


def explain(output: str) -> str | None:
    """The sentence for what a failed tool printed, where its cause is a known one."""
    return next((sentence for pattern, sentence in _KNOWN if re.search(pattern, output)), None)
