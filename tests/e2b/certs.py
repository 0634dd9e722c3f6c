"""A private CA and a server certificate, by the openssl command."""
import os
import ssl
import subprocess

# A wildcard needs two labels behind it, or clients do not accept it.
DOMAIN = "e2b.localhost"
NAMES = ("DNS:localhost,DNS:*.localhost,DNS:api.localhost,"
         "DNS:sandbox.localhost,DNS:%s,DNS:*.%s,IP:127.0.0.1,IP:::1" %
         (DOMAIN, DOMAIN))
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def openssl(*arguments: str) -> None:
    subprocess.run(("openssl", *arguments), check=True, capture_output=True,
                   stdin=subprocess.DEVNULL)


def make(folder: str, bad: str) -> tuple[str, str, str]:
    """(CA, certificate, its key). `bad` makes one the CA's user must refuse:
    expired, wrong-host, self-signed or other-ca."""
    at = {name: os.path.join(folder, name) for name in (
        "ca.pem", "ca.key", "server.pem", "server.key", "server.csr",
        "server.ext", "other.pem", "other.key")}
    openssl("req", "-x509", *KEY, "-keyout", at["ca.key"], "-out",
            at["ca.pem"], "-days", "30", "-subj", "/CN=capibox test CA")
    names = "DNS:elsewhere.example" if bad == "wrong-host" else NAMES
    subject = "/CN=" + ("elsewhere.example" if bad == "wrong-host"
                        else "localhost")
    if bad == "self-signed":
        openssl("req", "-x509", *KEY, "-keyout", at["server.key"], "-out",
                at["server.pem"], "-days", "30", "-subj", subject, "-addext",
                "subjectAltName=" + names)
        return at["ca.pem"], at["server.pem"], at["server.key"]
    issuer = "ca"
    if bad == "other-ca":
        issuer = "other"
        openssl("req", "-x509", *KEY, "-keyout", at["other.key"], "-out",
                at["other.pem"], "-days", "30", "-subj", "/CN=another CA")
    openssl("req", "-new", *KEY, "-keyout", at["server.key"], "-out",
            at["server.csr"], "-subj", subject)
    with open(at["server.ext"], "w", encoding="ascii") as file:
        file.write("subjectAltName=%s\nextendedKeyUsage=serverAuth\n" % names)
    # x509 -days takes a negative number: over before it began.
    openssl("x509", "-req", "-in", at["server.csr"], "-CA",
            at[issuer + ".pem"], "-CAkey", at[issuer + ".key"],
            "-CAcreateserial", "-days", "-1" if bad == "expired" else "30",
            "-extfile", at["server.ext"], "-out", at["server.pem"])
    return at["ca.pem"], at["server.pem"], at["server.key"]


def context(certificate: str, key: str, h2: bool) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.load_cert_chain(certificate, key)
    made.set_alpn_protocols(["h2", "http/1.1"] if h2 else ["http/1.1"])
    return made
