"""Certificates of a scheduler: it executes all that it is sent, so its peers use TLS with a certificate of the run.

A site that has certificates of its own names them in Dask's configuration, `distributed.comm.tls`: these are used then.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import distributed

from cwt_dask.errors import InputError

ROLES = ("client", "scheduler", "worker")
# Names in Dask's configuration of attributes of `distributed.Security`.
_NAMES = {
    "distributed.comm.require-encryption": "require_encryption",
    "distributed.comm.tls.ca-file": "tls_ca_file",
    **{f"distributed.comm.tls.{role}.{part}": f"tls_{role}_{part}" for role in ROLES for part in ("cert", "key")},
}


def security() -> distributed.Security:
    """The site's certificates, or a new one; InputError where the site's cannot be used."""
    cannot = "no cluster can be started here"
    sites = of_the_site(cannot, require_encryption=True)
    if not sites.tls_ca_file:
        return distributed.Security.temporary()
    for role in ROLES:
        refuse_unusable(sites, role, cannot)
    return sites


def of_the_site(cannot: str, **more: Any) -> distributed.Security:
    """What Dask's configuration says; InputError, which begins with what cannot be done, where it makes no sense."""
    try:
        return distributed.Security(**more)
    except (TypeError, ValueError) as error:
        raise InputError(f"{cannot}: Dask's configuration makes no sense ({error}): correct it") from error


def refuse_unusable(security: distributed.Security, role: str, cannot: str) -> None:
    """Refuse certificates for which Dask has no clear error, and leaves behind what nothing can close.

    Raises InputError if one is missing, or none.

    Parameters
    ----------
    security : distributed.Security
        The certificates.
    role : str
        For whom they are: one of `ROLES`.
    cannot : str
        What cannot be done with them; the message begins with it.
    """
    for name, value in {"ca-file": security.tls_ca_file, f"{role}.cert": getattr(security, f"tls_{role}_cert")}.items():
        setting = f"Dask's configuration here (distributed.comm.tls.{name})"
        if not value:
            raise InputError(
                f"{cannot}: it uses TLS, and {setting} names no certificate: set it to that of the scheduler"
            )
        # The setting may hold the certificate itself.
        if "\n" not in str(value) and not Path(str(value)).is_file():
            raise InputError(f"{cannot}: there is no file {value}, which {setting} names")
    try:
        security.get_connection_args(role)
    except (OSError, TypeError, ValueError) as error:
        raise InputError(
            f"{cannot}: the certificates of the {role} that Dask's configuration here (distributed.comm.tls) names "
            f"cannot be used ({error}): correct it"
        ) from error


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
