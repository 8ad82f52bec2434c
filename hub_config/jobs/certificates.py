"""The certificate that Dask's scheduler, workers and clients show each other.

One key and one self-signed certificate, which is also the authority that all check against: who
holds the file is one of us. Both lie among the secrets, made once before anything starts.
"""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hub_config.keys import write_private
from hub_config.settings import Settings

YEARS = 10


def certificate_paths(settings: Settings) -> tuple[Path, Path]:
    """The certificate's and the key's file."""
    return settings.secrets_dir / "dask-certificate.pem", settings.secrets_dir / "dask-key.pem"


def ensure_certificates(settings: Settings) -> None:
    """Make certificate and key where they are missing, or end within a month."""
    certificate_path, key_path = certificate_paths(settings)
    now = datetime.datetime.now(datetime.UTC)
    if certificate_path.exists() and key_path.exists():
        present = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        if present.not_valid_after_utc > now + datetime.timedelta(days=30):
            return
    settings.secrets_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cuaderno-dask")])
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365 * YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_private(
        key_path,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
    )
    write_private(certificate_path, certificate.public_bytes(serialization.Encoding.PEM).decode())
