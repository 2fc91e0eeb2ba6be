"""Certificates of an authority of our own, for the tests of TLS."""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.harness.requirements import do_without

FOREVER = "3650"


class Authority(NamedTuple):
    """A certificate authority."""

    folder: Path

    @property
    def certificate(self) -> Path:
        return self.folder / "ca.crt"

    @classmethod
    def found(cls, folder: Path) -> "Authority":
        """Make an authority of our own."""
        folder.mkdir()
        openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", FOREVER),
            *("-keyout", folder / "ca.key", "-out", folder / "ca.crt", "-subj", "/CN=Swamp"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )
        return cls(folder)

    def sign(self, name: str) -> tuple[Path, Path]:
        """Make a certificate for the host of that *name*, and its key."""
        key, request, signed, extensions = (
            self.folder / f"{name}.{ending}" for ending in ("key", "csr", "crt", "ext")
        )
        openssl(
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", key, "-out", request),
        )
        extensions.write_text(
            f"subjectAltName=DNS:{name}\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        )
        openssl(
            *("x509", "-req", "-in", request, "-out", signed, "-days", FOREVER, "-extfile"),
            *(extensions, "-CA", self.certificate, "-CAkey", self.folder / "ca.key"),
            "-CAcreateserial",
        )
        return signed, key


def openssl(*words: object) -> None:
    program = shutil.which("openssl")
    if program is None:
        do_without("openssl is not on the PATH")
    subprocess.run([program, *map(str, words)], check=True, capture_output=True)
