"""Certificates for KubeApi, made by the openssl command line: an authority, servers, clients."""

import os
import subprocess

_CONFIG = """
[ca]
default_ca = here
[here]
dir = {folder}
database = {folder}/index.txt
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
policy = any
copy_extensions = copy
unique_subject = no
[any]
commonName = supplied
organizationName = optional
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
"""


class Authority:
    """A directory with ca.crt; issue() puts a certificate and its key beside it."""

    def __init__(self, folder, name="kubernetes"):
        self.folder = folder
        self.ca = f"{folder}/ca.crt"
        os.makedirs(folder, exist_ok=True)
        with open(f"{folder}/openssl.cnf", "w", encoding="ascii") as file:
            file.write(_CONFIG.format(folder=folder))
        with open(f"{folder}/index.txt", "w", encoding="ascii"):
            pass
        command = ["req", "-x509", "-new", "-nodes", "-days", "3650", "-subj", f"/CN={name}"]
        command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        command += ["-keyout", f"{folder}/ca.key", "-out", self.ca, "-extensions", "authority"]
        self._openssl(*command, "-config", f"{folder}/openssl.cnf")

    def issue(self, name, subject, *, names=(), start=None, end=None):
        """(certificate, key) paths. `names` are like "IP:127.0.0.1"; `start` and `end` are
        YYYYMMDDHHMMSSZ, by default from an hour ago for ten years."""
        cert, key, request = (f"{self.folder}/{name}.{end}" for end in ("crt", "key", "csr"))
        command = ["req", "-new", "-nodes", "-subj", subject, "-keyout", key, "-out", request]
        command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        if names:
            command += ["-addext", f"subjectAltName={','.join(names)}"]
        config = f"{self.folder}/openssl.cnf"
        self._openssl(*command, "-config", config)
        command = ["ca", "-batch", "-notext", "-config", config, "-in", request, "-out", cert]
        command += ["-cert", self.ca, "-keyfile", f"{self.folder}/ca.key"]
        command += ["-startdate", start or "20200101000000Z", "-enddate", end or "20491231235959Z"]
        self._openssl(*command)
        return cert, key

    @staticmethod
    def _openssl(*words):
        done = subprocess.run(
            ["openssl", *words], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"openssl {words[0]}: {done.stderr.decode().strip()}")
