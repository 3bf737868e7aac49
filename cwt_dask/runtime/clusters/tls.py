"""Certificates of a scheduler: it executes all that it is sent, so its peers use TLS with a certificate of the run.

A site that has certificates of its own names them in Dask's configuration, `distributed.comm.tls`: these are used then.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import distributed
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cwt_dask.errors import InputError

ROLES = ("client", "scheduler", "worker")
# In certificates that are made here.
_NAME = "cwt-dask"
# The end is that of certificates without one.
_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
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
        return temporary()
    for role in ROLES:
        refuse_unusable(sites, role, cannot)
    return sites


def temporary() -> distributed.Security:
    """A new certificate, and its key in memory, for all peers of one run.

    It holds whatever clocks show: they are set back, and those of two machines differ. That of Dask holds from now on.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name, plain = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)]), serialization.NoEncryption()
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.not_valid_before(_ALWAYS[0]).not_valid_after(_ALWAYS[1])
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(_NAME)]), critical=False)
    pem = serialization.Encoding.PEM
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(pem).decode()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain).decode()
    parts = {f"tls_{role}_{part}": text for role in ROLES for part, text in (("cert", certificate), ("key", private))}
    return distributed.Security(require_encryption=True, tls_ca_file=certificate, **parts)


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
