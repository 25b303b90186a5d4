"""https:// addresses, with a proxy that ends TLS in front of the real servers: certificates that are right, wrong,
missing or no certificates at all; and no error that takes its time."""

from __future__ import annotations

import datetime
import ipaddress
import pathlib
import ssl
from typing import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

import data
import tool as exits
from buckets import FolderBucket
from conftest import Servers
from moves import nothing_changes, tokens
from oracle import Cluster, compare_rows
from proxy import Proxy
from tool import Result, Tool

PROMPT = 15.0  # seconds; the connection may take 10


class Authority:
    """A certificate authority with its files in one folder."""

    def __init__(self, folder: pathlib.Path, name: str):
        self.folder, self.name = folder, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} authority")])
        certificate = self._build(self.subject, self.key, is_ca=True)
        self.ca = self._write("ca.pem", certificate.public_bytes(serialization.Encoding.PEM))

    def _build(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, is_ca: bool, days: int = 1, names: list = [], usage=None):
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject).issuer_name(self.subject).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=10)).not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )  # fmt: skip
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def _write(self, file: str, content: bytes) -> pathlib.Path:
        path = self.folder / f"{self.name}-{file}"
        path.write_bytes(content)
        return path

    def issue(self, name: str, host: str | None = None, days: int = 1) -> tuple[pathlib.Path, pathlib.Path]:
        """Certificate and key: of a server when a host is given, else of a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list = []
        if host:
            names = [x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host)]
        usage = ExtendedKeyUsageOID.SERVER_AUTH if host else ExtendedKeyUsageOID.CLIENT_AUTH
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._build(subject, key, is_ca=False, days=days, names=names, usage=usage)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return (
            self._write(f"{name}.pem", certificate.public_bytes(serialization.Encoding.PEM)),
            self._write(f"{name}.key", pem),
        )


def context(pair: tuple[pathlib.Path, pathlib.Path], clients: pathlib.Path | None = None, version=None) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*pair)
    made.set_alpn_protocols(["h2"])
    if clients:
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(clients)
    if version:
        made.maximum_version = version
    return made


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "acme")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other"), "other")


@pytest.fixture(scope="module")
def server_pair(authority: Authority) -> tuple[pathlib.Path, pathlib.Path]:
    return authority.issue("server", "127.0.0.1")


@pytest.fixture(scope="module")
def lite(clusters: Servers) -> Cluster:
    return clusters("lite322")


@pytest.fixture(scope="module")
def docs(lite: Cluster) -> Iterator[data.Spec]:
    import uuid

    spec = data.plain(f"t{uuid.uuid4().hex[:10]}__tls", 120, partitions=2)
    lite.fill(spec)
    yield spec
    lite.client().drop_collection(spec.name)


def refused(result: Result, *words: str, codes: tuple[int, ...] = (exits.USAGE,)) -> None:
    """Exit 2, in time, and one of the words says why; no Debug text of a library."""
    text = " ".join([result.error["message"], *result.error["causes"], result.error["hint"] or ""])
    assert result.code in codes, f"wanted exit code {codes}\n{result}"
    assert result.seconds < PROMPT, result
    assert not words or any(word in text.lower() for word in words), f"none of {words} is in: {text}"
    assert text.lower() != "transport error", result


# --- it works -----------------------------------------------------------------------------------------------------


def test_export_and_import_over_tls(
    tool: Tool, lite: Cluster, clusters: Servers, docs: data.Spec, authority: Authority, server_pair: tuple, folder_bucket: FolderBucket
) -> None:
    target, url = clusters("lite322b"), folder_bucket.url("snap")
    with Proxy(lite.uri, tls=context(server_pair)) as proxy:
        tool.run("export", url, "--source", proxy.uri, "--source-ca", str(authority.ca), "-c", docs.name)
        assert proxy.connections
    tool.run("verify", url, "--level", "full")
    with Proxy(target.uri, tls=context(server_pair)) as proxy:
        for extra in (["--plan"], []):
            tool.run("import", url, "--target", proxy.uri, "--target-ca", str(authority.ca), *extra)
        assert proxy.connections
    assert compare_rows(docs, target) == []
    target.client().drop_collection(docs.name)


VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])


@VERSIONS
def test_a_client_certificate(
    tool: Tool, lite: Cluster, clusters: Servers, docs: data.Spec, authority: Authority, server_pair: tuple,
    folder_bucket: FolderBucket, version: ssl.TLSVersion,
) -> None:  # fmt: skip
    url, target = folder_bucket.url("snap"), clusters("lite322b")
    cert, key = map(str, authority.issue("client"))
    tls = context(server_pair, clients=authority.ca, version=version)
    with Proxy(lite.uri, tls=tls) as proxy:
        trust = ("--source-ca", str(authority.ca), "--source-cert", cert, "--source-key", key)
        tool.run("export", url, "--source", proxy.uri, *trust, "-c", docs.name)
        assert proxy.connections
    with Proxy(target.uri, tls=tls) as proxy:
        trust = ("--target-ca", str(authority.ca), "--target-cert", cert, "--target-key", key)
        tool.run("import", url, "--target", proxy.uri, *trust)
        assert proxy.connections
    assert compare_rows(docs, target) == []
    target.client().drop_collection(docs.name)


@VERSIONS
@pytest.mark.parametrize("what", ["none", "of another authority"])
@pytest.mark.parametrize("command", ["export", "import"])
def test_a_client_certificate_that_the_server_refuses(
    tool: Tool, lite: Cluster, authority: Authority, other: Authority, server_pair: tuple, small_folder: FolderBucket, small_database: str,
    version: ssl.TLSVersion, what: str, command: str,
) -> None:  # fmt: skip
    """Exit 2, and the client certificate is named: running the same command again will not help. (In TLS 1.3 the
    refusal comes after the client's handshake is done.)"""
    side = {"export": "source", "import": "target"}[command]
    with Proxy(lite.uri, tls=context(server_pair, clients=authority.ca, version=version)) as proxy:
        args = [command, small_folder.url({"export": "new", "import": "snap"}[command]), f"--{side}", proxy.uri]
        args += [f"--{side}-ca", str(authority.ca)]
        if what != "none":
            cert, key = map(str, other.issue("client"))
            args += [f"--{side}-cert", cert, f"--{side}-key", key]
        with nothing_changes(small_folder, lite.only(small_database)):
            refused(tool.run(*args, code=None), "client certificate")
        assert proxy.connections == 0


@pytest.mark.parametrize("what", ["no key", "no certificate", "another key", "missing file", "no PEM"])
def test_half_a_client_certificate(
    tool: Tool, lite: Cluster, docs: data.Spec, authority: Authority, other: Authority, server_pair: tuple,
    folder_bucket: FolderBucket, tmp_path: pathlib.Path, what: str,
) -> None:  # fmt: skip
    cert, key = map(str, authority.issue("client"))
    if what == "another key":
        key = str(other.issue("client")[1])
    elif what == "missing file":
        key = str(tmp_path / "nothing.key")
    elif what == "no PEM":
        key = str(tmp_path / "binary.key")
        pathlib.Path(key).write_bytes(b"\x30\x82")
    given = [] if what == "no certificate" else ["--source-cert", cert]
    given += [] if what == "no key" else ["--source-key", key]
    with Proxy(lite.uri, tls=context(server_pair, clients=authority.ca)) as proxy, nothing_changes(lite.only(docs.name), folder_bucket):
        args = ("export", folder_bucket.url("snap"), "--source", proxy.uri, "--source-ca", str(authority.ca), *given)
        words = {"missing file": "nothing.key", "no PEM": "binary.key", "no key": "--source-key", "no certificate": "--source-cert"}
        refused(tool.run(*args, code=None), words.get(what, "key"))
        assert proxy.connections == 0


def test_a_token_travels_over_tls(
    tool: Tool, clusters: Servers, authority: Authority, server_pair: tuple, folder_bucket: FolderBucket, unique: str
) -> None:
    milvus, url = clusters("milvus235"), folder_bucket.url("snap")
    spec = data.plain(f"{unique}__secret", 30)
    milvus.fill(spec)
    with Proxy(milvus.uri, tls=context(server_pair)) as proxy:
        args = ("export", url, "--source", proxy.uri, "--source-ca", str(authority.ca), "-c", spec.name)
        for wrong in ({}, {"MILVUS_HANDOFF_SOURCE_TOKEN": "root:wrong-password"}):
            result = tool.run(*args, env=wrong, code=exits.DENIED)
            assert result.seconds < PROMPT
        result = tool.run(*args, env=tokens(source=milvus))
    assert result.doc["totals"]["rows"] == 30
    milvus.client().drop_collection(spec.name)


def test_a_server_name_and_a_chain_file(
    tool: Tool, lite: Cluster, docs: data.Spec, authority: Authority, other: Authority, folder_bucket: FolderBucket, tmp_path: pathlib.Path
) -> None:
    """A certificate for `localhost`, and a CA file with more than one certificate and words around them."""
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(b"# our authorities\n" + other.ca.read_bytes() + b"\nand\n" + authority.ca.read_bytes())
    with Proxy(lite.uri, tls=context(authority.issue("named", "localhost"))) as proxy:
        uri = f"https://localhost:{proxy.port}"
        tool.run("export", folder_bucket.url("snap"), "--source", uri, "--source-ca", str(bundle), "-c", docs.name)
        # the same server under a name that its certificate does not have
        args = ("export", folder_bucket.url("more"), "--source", proxy.uri, "--source-ca", str(bundle), "-c", docs.name)
        refused(tool.run(*args, code=None), "certificate", "name")


# --- it does not, and says so -------------------------------------------------------------------------------------


@pytest.mark.parametrize("why", ["no CA given", "another CA", "expired"])
def test_a_server_that_cannot_be_trusted(
    tool: Tool, lite: Cluster, docs: data.Spec, authority: Authority, other: Authority, server_pair: tuple,
    small_folder: FolderBucket, small_database: str, why: str,
) -> None:  # fmt: skip
    pair = authority.issue("old", "127.0.0.1", days=-1) if why == "expired" else server_pair
    ca = {"no CA given": None, "another CA": other.ca, "expired": authority.ca}[why]
    with Proxy(lite.uri, tls=context(pair)) as proxy, nothing_changes(lite.only(small_database), small_folder):
        trust = ("--source-ca", str(ca)) if ca else ()
        result = tool.run("export", small_folder.url("new"), "--source", proxy.uri, *trust, "-c", docs.name, code=None)
        refused(result, "certificate", "unknownissuer", "expired")
        if why != "expired":
            assert "--source-ca" in (result.error["hint"] or "") or "authority" in str(result.error).lower(), result
        trust = ("--target-ca", str(ca)) if ca else ()
        refused(tool.run("import", small_folder.url("snap"), "--target", proxy.uri, *trust, code=None), "certificate", "expired")
        assert proxy.connections == 0, "it went on with a server that it must not trust"


def test_http_to_a_tls_port(tool: Tool, lite: Cluster, server_pair: tuple, small_folder: FolderBucket, small_database: str) -> None:
    """A connection that is closed at once could be many things, so exit 75 will do as well; https:// must be named."""
    codes = (exits.USAGE, exits.TEMPORARY)
    with Proxy(lite.uri, tls=context(server_pair)) as proxy, nothing_changes(lite.only(small_database), small_folder):
        uri = f"http://127.0.0.1:{proxy.port}"
        result = tool.run("export", small_folder.url("new"), "--source", uri, code=None)
        refused(result, "https://", "tls", codes=codes)
        result = tool.run("import", small_folder.url("snap"), "--target", uri, code=None)
        refused(result, "https://", "tls", codes=codes)


@pytest.mark.parametrize("engine", ["lite322", "milvus235"])
def test_https_to_a_plain_port(
    tool: Tool, clusters: Servers, authority: Authority, small_folder: FolderBucket, small_database: str, engine: str
) -> None:
    cluster = clusters(engine)
    uri = cluster.uri.replace("http://", "https://")
    with nothing_changes(cluster.only(small_database), small_folder):
        args = ("export", small_folder.url("new"), "--source", uri, "--source-ca", str(authority.ca))
        refused(tool.run(*args, env=tokens(source=cluster), code=None), "http://", "tls")
        args = ("import", small_folder.url("snap"), "--target", uri, "--target-ca", str(authority.ca))
        refused(tool.run(*args, env=tokens(target=cluster), code=None), "http://", "tls")


@pytest.mark.parametrize("what", ["no PEM", "empty", "missing", "folder", "key instead", "damaged PEM"])
def test_a_ca_file_that_is_none(
    tool: Tool, lite: Cluster, docs: data.Spec, authority: Authority, server_pair: tuple, folder_bucket: FolderBucket,
    tmp_path: pathlib.Path, what: str,
) -> None:  # fmt: skip
    """Exit 2, and the file is named."""
    file = tmp_path / "ca.file"
    if what == "folder":
        file.mkdir()
    elif what != "missing":
        pem = authority.ca.read_bytes().splitlines(keepends=True)
        file.write_bytes({
            "no PEM": b"\x30\x82\x01\x0a not PEM", "empty": b"", "key instead": server_pair[1].read_bytes(),
            "damaged PEM": b"".join([pem[0], b"!!!! not base64 !!!!\n", *pem[2:]]),
        }[what])  # fmt: skip
    with Proxy(lite.uri, tls=context(server_pair)) as proxy, nothing_changes(lite.only(docs.name), folder_bucket):
        args = ("export", folder_bucket.url("snap"), "--source", proxy.uri, "--source-ca", str(file), "-c", docs.name)
        result = tool.run(*args, code=None)
        refused(result)
        assert "ca.file" in result.stderr, f"the file is not named\n{result}"
        assert proxy.connections == 0


def test_tls_options_without_tls(tool: Tool, lite: Cluster, docs: data.Spec, authority: Authority, folder_bucket: FolderBucket) -> None:
    """Whoever gives a CA wants TLS: an http:// address beside it is a mistake, not a reason to send secrets in the open."""
    args = ("export", folder_bucket.url("snap"), "--source", lite.uri, "--source-ca", str(authority.ca), "-c", docs.name)
    with nothing_changes(lite.only(docs.name), folder_bucket):
        refused(tool.run(*args, code=None), "https://")
