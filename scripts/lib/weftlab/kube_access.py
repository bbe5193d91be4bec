"""Who may come in to KubeApi, how it proves who it is, and the files that tell clients so."""

import json
import os
import ssl

from .kube_certs import Authority

USER = "system:serviceaccount:weft:weft"
NAMES = ("IP:127.0.0.1", "IP:::1", "DNS:localhost", "DNS:kubernetes.default.svc")


class Access:
    """A part of KubeApi, whose attributes it uses."""

    def make_authority(self):
        self.authority = Authority(f"{self.folder}/pki")
        self.client_cert = self.authority.issue("client", f"/O=system:nodes/CN={USER}")
        self.swap_certificate()

    def set_token(self, token, tell=True):
        """From now on only this token is right; `tell` puts it where clients read it."""
        with self.store.lock:
            self.token = token
        if tell:
            self.write_token()

    def write_token(self, token=None):
        """As kubelet renews a projected volume: aside, then renamed into place."""
        aside = f"{self.folder}/token.new"
        with open(aside, "w", encoding="ascii") as file:
            file.write(token or self.token or "")
        os.rename(aside, self.token_file)

    @property
    def token_file(self):
        return f"{self.folder}/token"

    def swap_certificate(self, *, start=None, end=None, authority=None, names=None):
        """New connections see a new certificate: of the same authority, or of another one that
        clients do not know; valid from `start` to `end` (YYYYMMDDHHMMSSZ)."""
        self._serial += 1
        cert, key = (authority or self.authority).issue(
            f"server-{self._serial}",
            "/CN=kube-apiserver",
            names=names or self._names,
            start=start,
            end=end,
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        context.set_alpn_protocols(["http/1.1"])
        if self.client_certs:
            context.verify_mode = ssl.CERT_OPTIONAL
            context.load_verify_locations(self.authority.ca)
        self._context = context

    def expire_certificate(self):
        self.swap_certificate(end="20200102000000Z")

    def stranger(self):
        """An authority nobody trusts, for swap_certificate(authority=...)."""
        return Authority(f"{self.folder}/stranger", "stranger")

    def service_account(self, path):
        """The directory of a pod's service account, as kubelet projects it: everything behind one
        symlink. Called again it renews the token, as kubelet does."""
        self._serial += 1
        fresh = f"..{self._serial}"
        os.makedirs(f"{path}/{fresh}")
        texts = {"token": self.token or "", "namespace": "weft"}
        if self.tls:
            with open(self.authority.ca, encoding="ascii") as file:
                texts["ca.crt"] = file.read()
        for name, text in texts.items():
            with open(f"{path}/{fresh}/{name}", "w", encoding="ascii") as file:
                file.write(text)
            if not os.path.islink(f"{path}/{name}"):
                os.symlink(f"..data/{name}", f"{path}/{name}")
        os.symlink(fresh, f"{path}/..data_tmp")
        os.rename(f"{path}/..data_tmp", f"{path}/..data")

    def kubeconfig(self, path, *, auth=None, exec_command=None):
        """auth: "token", "tokenFile", "cert", "exec" or "none"; by default what this server asks
        for. exec_command is the credential plugin's argv."""
        auth = auth or ("cert" if self.client_certs else "tokenFile" if self.token else "none")
        lines = ["apiVersion: v1", "kind: Config", "clusters:", "- name: test", "  cluster:"]
        lines += [f"    server: {self.url}"]
        if self.tls:
            lines += [f"    certificate-authority: {self.authority.ca}"]
        lines += ["users:", "- name: weft"]
        if auth == "token":
            lines += ["  user:", f"    token: {self.token}"]
        elif auth == "tokenFile":
            self.write_token()
            lines += ["  user:", f"    tokenFile: {self.token_file}"]
        elif auth == "cert":
            cert, key = self.client_cert
            lines += ["  user:", f"    client-certificate: {cert}", f"    client-key: {key}"]
        elif auth == "exec":
            lines += ["  user:", "    exec:"]
            lines += ["      apiVersion: client.authentication.k8s.io/v1"]
            lines += [f"      command: {json.dumps(exec_command[0])}"]
            lines += [f"      args: {json.dumps(list(exec_command[1:]))}"]
            lines += ["      interactiveMode: Never"]
        else:
            lines += ["  user: {}"]
        lines += ["contexts:", "- name: test", "  context:"]
        lines += ["    cluster: test", "    user: weft", "current-context: test", ""]
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(lines))
        return path
