"""Starts and stops the real servers of the live tests and the demo.

Each server runs from the environments that `venvs.sh` installs, on free loopback ports, with its data in a
folder of its own. A server counts as started when a client got an answer out of it. It ends with its whole
process tree: when its `with` block ends, when this process exits, and (on Linux) also when this process is
killed.

    with milvus235() as server:
        MilvusClient(uri=server.uri, token=server.token)

What this does not do: it knows nothing of the tool under test, and it never uses a server that it did not start.
"""

from __future__ import annotations

import atexit
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from typing import Callable

ROOT = pathlib.Path(__file__).resolve().parents[2]
VENVS = ROOT / ".venvs"

# Starting is quick (2 to 5 s); the time-out is for machines that are busy with a build.
START_TIMEOUT = 180.0
START_ATTEMPTS = 3

# For pymilvus: by default it pings every 10 s, also when idle, and both Lites hang up on it for that (GOAWAY,
# "too_many_pings").
GRPC_OPTIONS = {"grpc.keepalive_time_ms": 2**31 - 1, "grpc.keepalive_permit_without_calls": False}

# On Linux a server must not outlive us even when we are killed: the kernel sends it this signal when its parent
# goes. Set by a small launcher that then becomes the server, because code between fork and exec is not safe in a
# process that has gRPC threads. It also sets the server's environment: a LD_LIBRARY_PATH for Milvus would break
# the Python that runs the launcher.
LAUNCHER = """
import ctypes, json, os, signal, sys
parent, environment = int(sys.argv[1]), json.loads(sys.argv[2])
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        sys.exit("the process that started this server is gone")
os.execve(sys.argv[3], sys.argv[3:], {**os.environ, **environment})
"""


class ServerError(RuntimeError):
    """A server could not be started. The message holds the reason and the end of its log."""


def venv(name: str) -> pathlib.Path:
    """The folder of one environment; fails with the command that makes it."""
    folder = VENVS / name
    if not (folder / "stamp").exists():
        raise ServerError(f"the environment {folder} is missing or unfinished; run: tests/live/venvs.sh")
    return folder


def free_ports(count: int) -> list[int]:
    """`count` different TCP ports on which nothing listens now.

    From below the range that the kernel hands to outgoing connections, so that none of those takes one between
    here and the server's bind. Another process still may; starting is retried for that.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(20000, 32000)
        if port in found:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
        found.append(port)
    return found


@dataclass
class Launch:
    """One attempt at a server: what to run and how to see that it answers."""

    argv: list[str]
    cwd: pathlib.Path
    uri: str
    ready: Callable[[], object]
    env: dict[str, str] = field(default_factory=dict)


# The folders of servers, followed by the id of the process that they are of.
FOLDERS = "handoff-of-"


def remove_orphans() -> None:
    """Removes the folders of servers whose process was killed before it could do so itself."""
    for folder in pathlib.Path(tempfile.gettempdir()).glob(f"{FOLDERS}*"):
        owner = folder.name.removeprefix(FOLDERS).split("-")[0]
        try:
            os.kill(int(owner), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (PermissionError, ValueError):
            pass  # Somebody else's.


class Server:
    """One running server. `uri` and `token` are what a client needs."""

    def __init__(self, name: str, prepare: Callable[[pathlib.Path], Launch], token: str = ""):
        self.name = name
        self.token = token
        self.uri = ""
        remove_orphans()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{FOLDERS}{os.getpid()}-{name}-"))
        self._prepare = prepare
        self._process: subprocess.Popen | None = None
        self._owner = os.getpid()
        self._attempt = 0
        atexit.register(self.stop)

    @property
    def log(self) -> pathlib.Path:
        return self.folder / "log.txt"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def cpu_seconds(self) -> float:
        """CPU time that the server itself has used, on Linux; elsewhere 0."""
        try:
            fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        except FileNotFoundError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def launch(self) -> "Server":
        """Starts the process and returns at once; `wait` says when it answers."""
        self._attempt += 1
        data = self.folder / f"data{self._attempt}"
        data.mkdir()
        self._launch = self._prepare(data)
        self.uri = self._launch.uri
        return self._spawn()

    def crash(self) -> None:
        """SIGKILL. What it holds in its folder stays there."""
        self._kill()

    def again(self) -> "Server":
        """Starts it after a crash, on the same ports and data, and returns at once."""
        return self._spawn()

    def _spawn(self) -> "Server":
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-c", LAUNCHER, str(os.getpid()), json.dumps(self._launch.env)]
                + self._launch.argv,
                cwd=self._launch.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def wait(self) -> "Server":
        """Waits until the server answers; starts it again when it gave up by itself."""
        deadline = time.monotonic() + START_TIMEOUT
        last = "no answer yet"
        while True:
            assert self._process is not None
            if (code := self._process.poll()) is not None:
                if self._attempt >= START_ATTEMPTS:
                    self._fail(f"ended by itself with code {code}, {self._attempt} times")
                self._kill()
                self.launch()
            try:
                self._launch.ready()
                return self
            except Exception as error:  # whatever the client raises while the server is not there yet
                last = f"{type(error).__name__}: {error}"
            if time.monotonic() > deadline:
                self._fail(f"did not answer within {START_TIMEOUT:.0f} s; last: {last}")
            time.sleep(0.1)

    def start(self) -> "Server":
        return self.launch().wait()

    def stop(self) -> None:
        """Ends the whole process tree and removes the data. Safe to call twice."""
        if os.getpid() != self._owner:
            return  # a forked child must not stop its parent's servers
        atexit.unregister(self.stop)
        self._kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log_tail(self, lines: int = 40) -> str:
        try:
            text = self.log.read_text(errors="replace")
        except OSError as error:
            return f"(no log: {error})"
        return "\n".join(text.splitlines()[-lines:])

    def _kill(self) -> None:
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        self._process = None

    def _fail(self, what: str) -> None:
        message = f"{self.name} {what}\n--- end of {self.log}\n{self.log_tail()}"
        self.stop()
        raise ServerError(message)

    def __enter__(self) -> "Server":
        if self._process is None:
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _answers(uri: str, token: str = "") -> Callable[[], object]:
    """A check that the server at `uri` lists its collections."""

    def check() -> object:
        port = int(uri.rsplit(":", 1)[1])
        socket.create_connection(("127.0.0.1", port), timeout=1).close()  # cheap; the client below is not
        from pymilvus import MilvusClient

        client = MilvusClient(uri=uri, token=token, timeout=10, grpc_options=GRPC_OPTIONS)
        try:
            return client.list_collections(timeout=10)
        finally:
            client.close()

    return check


def _site_packages(name: str) -> pathlib.Path:
    return next((venv(name) / "lib").glob("python3*/site-packages"))


def milvus235(s3: str | None = None, bucket: str = "", settings: dict[str, str] | None = None) -> Server:
    """Milvus 2.3.5 standalone with authorization on (user root, password Milvus). With `s3`, the address of an S3
    server, it keeps its data in `bucket` there instead of in its own folder. `settings` are further lines of its
    configuration: what stands there, and what is to stand there instead.

    The wheel's own launcher is not used: it unpacks 250 MB into every data folder, gives up on busy machines,
    and lets the embedded etcd take the fixed peer port 2380, so that only one instance could run. Started
    directly, with `etcd.config.path` in milvus.yaml, any number run side by side, and each is up in 2 to 5 s.
    """

    def prepare(data: pathlib.Path) -> Launch:
        server = venv("milvus235") / "server"
        template = _site_packages("milvus235") / "milvus" / "data"
        configs = data / "configs"
        configs.mkdir()
        shutil.copy(template / "glog.conf", configs)
        values: dict[str, str] = {
            "authorization_enabled": "true",
            "etcd_data_dir": str(data / "etcd"),
            "etcd_log_path": str(data / "etcd.log"),
            "local_storage_dir": str(data / "storage"),
            "rocksmq_data_dir": str(data / "rocksmq"),
            "system_log_path": str(data / "logs"),
        }
        text = (template / "config.yaml.template").read_text()
        names = sorted(set(re.findall(r"\{\{\s*(\w+_port)\b", text)))
        metrics, peer, client, *ports = free_ports(3 + len(names))
        values.update(zip(names, map(str, ports)))

        def fill(match: re.Match) -> str:
            return values.get(match[1], match[2] or "")

        text = re.sub(r"\{\{\s*(\w+)(?:\(\w+\))?\s*(?::\s*(.*?))?\s*\}\}", fill, text)
        etcd = configs / "etcd.yaml"
        etcd.write_text(
            f"name: default\n"
            f"listen-peer-urls: http://127.0.0.1:{peer}\n"
            f"initial-advertise-peer-urls: http://127.0.0.1:{peer}\n"
            f"initial-cluster: default=http://127.0.0.1:{peer}\n"
            f"listen-client-urls: http://127.0.0.1:{client}\n"
            f"advertise-client-urls: http://127.0.0.1:{client}\n"
            f"unsafe-no-fsync: true\n"
        )
        text = text.replace("\netcd:\n", f"\netcd:\n  config:\n    path: {etcd}\n", 1)
        text = text.replace("\nlog:\n  level: info", "\nlog:\n  level: warn", 1)
        assert str(etcd) in text, "the template has no etcd section any more"
        host, _, port = (s3 or "").removeprefix("http://").partition(":")
        storage = {
            "  storageType: local": "  storageType: minio",
            "  address: localhost # Address of MinIO/S3": f"  address: {host}",
            "  port: 9000 # Port of MinIO/S3": f"  port: {port}",
            "  bucketName: a-bucket": f"  bucketName: {bucket}",
            '  region: ""': "  region: us-east-1",
        }
        for line, instead in {**(storage if s3 else {}), **(settings or {})}.items():
            assert text.count(f"\n{line}") == 1, f"the template has no single line {line!r}"
            text = text.replace(f"\n{line}", f"\n{instead}")
        (configs / "milvus.yaml").write_text(text)
        uri = f"http://127.0.0.1:{values['proxy_port']}"
        env = {
            "DEPLOY_MODE": "STANDALONE",
            "METRICS_PORT": str(metrics),
            "MILVUS_RUN_DIR": str(data / "run"),
            "LD_LIBRARY_PATH": str(server),
        }
        return Launch([str(server / "milvus"), "run", "standalone"], data, uri, _answers(uri, "root:Milvus"), env)

    return Server("milvus235", prepare, token="root:Milvus")


def lite251() -> Server:
    """Milvus Lite 2.5.1: the C++ core, one database file, no users, databases, partitions or aliases."""

    def prepare(data: pathlib.Path) -> Launch:
        lib = _site_packages("lite251") / "milvus_lite" / "lib"
        (port,) = free_ports(1)
        uri = f"http://127.0.0.1:{port}"
        argv = [str(lib / "milvus"), str(data / "lite.db"), f"127.0.0.1:{port}", "ERROR"]
        return Launch(argv, data, uri, _answers(uri), {"LD_LIBRARY_PATH": str(lib)})

    return Server("lite251", prepare)


def lite322(data_dir: pathlib.Path | None = None) -> Server:
    """Milvus Lite 3.2.2: the Python engine, no users."""

    def prepare(data: pathlib.Path) -> Launch:
        (port,) = free_ports(1)
        uri = f"http://127.0.0.1:{port}"
        argv = [str(venv("lite322") / "bin" / "milvus-lite"), "server"]
        argv += ["--data-dir", str(data_dir or data), "--host", "127.0.0.1", "--port", str(port)]
        return Launch(argv, data, uri, _answers(uri))

    return Server("lite322", prepare)


def moto_s3() -> Server:
    """moto's S3: takes any credentials; buckets are made by the tests."""

    def prepare(data: pathlib.Path) -> Launch:
        (port,) = free_ports(1)
        uri = f"http://127.0.0.1:{port}"

        def answers() -> object:
            with urllib.request.urlopen(f"{uri}/moto-api/", timeout=5) as reply:
                return reply.read(1)

        argv = [str(venv("check") / "bin" / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
        return Launch(argv, data, uri, answers, {"TMPDIR": str(data)})

    return Server("moto", prepare)


def start_all(*servers: Server) -> list[Server]:
    """Starts several servers side by side and waits for all; stops all when one fails."""
    try:
        for server in servers:
            server.launch()
        return [server.wait() for server in servers]
    except BaseException:
        for server in servers:
            server.stop()
        raise
