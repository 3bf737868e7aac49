"""Certificates of a scheduler: it executes all that it is sent, so its peers use TLS with a certificate of the run.

A site that has certificates of its own names them in Dask's configuration, `distributed.comm.tls`: these are used then.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import distributed

# Names in Dask's configuration of attributes of `distributed.Security`.
_NAMES = {
    "distributed.comm.require-encryption": "require_encryption",
    "distributed.comm.tls.ca-file": "tls_ca_file",
    **{
        f"distributed.comm.tls.{role}.{part}": f"tls_{role}_{part}"
        for role in ("client", "scheduler", "worker")
        for part in ("cert", "key")
    },
}


def security() -> distributed.Security:
    """The site's certificates, or a new one."""
    sites = distributed.Security(require_encryption=True)
    return sites if sites.tls_ca_file else distributed.Security.temporary()


def kept_in(directory: Path, security: distributed.Security) -> distributed.Security:
    """The same certificates in files, for libraries that take names of files only; the directory must be private."""
    parts: dict[str, Any] = {name: getattr(security, name) for name in _NAMES.values()}
    for name, value in parts.items():
        if isinstance(value, str) and "\n" in value:
            parts[name] = str(directory / f"{name}.pem")
            Path(parts[name]).write_text(value, encoding="ascii")
    return distributed.Security(**parts)


def as_configuration(security: distributed.Security) -> dict[str, Any]:
    """Settings of Dask by which every scheduler, worker and client of a process has these certificates."""
    settings = {name: getattr(security, attribute) for name, attribute in _NAMES.items()}
    return {name: value for name, value in settings.items() if value is not None}


def only_certificates(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The part of settings from a file that `as_configuration` makes: other settings could execute code."""
    return {name: value for name, value in settings.items() if name in _NAMES}
