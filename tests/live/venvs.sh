#!/usr/bin/env bash
# Installs the real servers and the independent clients that `make test`, `make demo` and `make bench` run.
#
#   tests/live/venvs.sh          everything the live tests need
#   tests/live/venvs.sh demo     only what the demo needs
#   tests/live/venvs.sh bench    only what the benchmark needs
#
# Each environment lies under .venvs/ in the project root and carries a stamp with the hash of what was
# asked for. The stamp is written last: an interrupted run leaves none, and the next run starts that
# environment over. What is there and right is left alone, so calling this on every build costs nothing.
# PYTHON chooses the interpreter (3.10 or newer; default python3).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
venvs=$root/.venvs
python=${PYTHON:-python3}

# What goes into which environment. Only names and versions: where packages come from is pip's own business.
requirements() {
  case $1 in
    # Milvus 2.3.5, the full standalone server with its own etcd. Only the server: every client is in `check`.
    milvus235) echo "milvus==2.3.5" ;;
    # Milvus Lite 2.5.1: the C++ core in a process of its own.
    lite251) echo "milvus-lite==2.5.1 tqdm==4.70.1" ;;
    # Milvus Lite 3.2.2: the Python engine, and the client with which the demo compares.
    lite322) echo "milvus-lite==3.2.2 pymilvus==3.0.2" ;;
    # The independent clients, the S3 server, pytest, and what makes the wheel.
    check) echo "pymilvus==3.0.2 pyarrow==26.0.1 duckdb==2.0.0 pytest==9.2.0 pytest-timeout==2.4.0" \
      "pytest-xdist==3.8.0 moto[server,s3]==5.2.5 boto3==1.44.5 numpy maturin==1.16.0" ;;
    # Another reader of Parquet, apart from the others: it brings an Arrow of its own.
    polars) echo "polars==2.1.0" ;;
    # The schemas of Kubernetes and of IAM, for the files in deploy/.
    deploy) echo "kubernetes-validate==1.37.0 parliament==1.6.4" ;;
    # What people use today, for the benchmark: pymilvus with what its BulkWriter needs.
    bench) echo "pymilvus[bulk-writer]==3.0.2 pyarrow==26.0.1" ;;
  esac
}

say() { printf '%s\n' "venvs: $*" >&2; }
die() { say "error: $*"; exit 1; }

# The wheel carries the server's files compressed and unpacks them into every data folder (13 s, 250 MB).
# Unpack them once, beside the environment, and let all servers run from there.
unpack_milvus235() {
  "$venvs/milvus235/bin/python" - "$venvs/milvus235/server" <<'PY'
import lzma, pathlib, sys, milvus
source = pathlib.Path(milvus.__file__).parent / "data" / "bin"
target = pathlib.Path(sys.argv[1])
target.mkdir(exist_ok=True)
for packed in sorted(source.glob("*.lzma")):
    file = target / packed.name[: -len(".lzma")]
    file.write_bytes(lzma.decompress(packed.read_bytes()))
    file.chmod(0o755)
assert (target / "milvus").exists(), "the wheel holds no file called milvus.lzma"
PY
}

install() {
  local name=$1 dir=$venvs/$1 wanted want
  wanted=$(requirements "$name")
  want=$("$python" -c 'import hashlib,sys; print(hashlib.sha256(repr((sys.version_info[:2], sys.argv[1:])).encode()).hexdigest())' "$name" "$wanted" "$dir" 2)
  if [[ -f $dir/stamp && $(<"$dir/stamp") == "$want" && -x $dir/bin/python ]]; then return; fi

  say "$name: installing $wanted"
  local log=$venvs/$name.log
  rm -rf "$dir"
  if ! {
    "$python" -m venv "$dir" &&
      # word splitting wanted: the list is ours and holds no spaces inside a name
      # shellcheck disable=SC2086
      "$dir/bin/python" -m pip install --disable-pip-version-check --no-input --prefer-binary $wanted &&
      { [[ $name != milvus235 ]] || unpack_milvus235; }
  } >"$log" 2>&1; then
    say "$name: failed; the end of $log:"
    tail -n 20 "$log" >&2
    return 1
  fi
  printf '%s' "$want" >"$dir/stamp.new"
  mv "$dir/stamp.new" "$dir/stamp"
  say "$name: ready"
}

# The command minisign, unpacked from Debian's package without installing it, unless the system has one. Where
# there is neither, tests/live/test_signatures.py fails and says so.
unpack_minisign() {
  local dir=$venvs/minisign
  if type -P minisign >/dev/null || [[ -x $dir/minisign ]]; then return; fi
  rm -rf "$dir.new" && mkdir -p "$dir.new"
  if command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null && (
    cd "$dir.new"
    # On a machine whose lists of packages were never fetched, that comes first.
    apt-get download minisign libsodium23 || { apt-get update && apt-get download minisign libsodium23; } || exit 1
    for package in *.deb; do dpkg-deb -x "$package" .; done
  ) >"$venvs/minisign.log" 2>&1; then
    printf '#!/bin/sh\nLD_LIBRARY_PATH=$(echo "%s"/usr/lib/*-linux-gnu*) exec "%s/usr/bin/minisign" "$@"\n' "$dir" "$dir" \
      >"$dir.new/minisign"
    chmod 755 "$dir.new/minisign"
    mv "$dir.new" "$dir"
    say "minisign: ready"
  else
    rm -rf "$dir.new"
    say "minisign: not to be had here; install it (apt install minisign)"
  fi
}

case ${1:-all} in
  all) names=(milvus235 lite251 lite322 check polars deploy bench) ;;
  demo) names=(lite322) ;;
  bench) names=(bench) ;;
  *) die "unknown argument '$1' (nothing, demo or bench)" ;;
esac

command -v "$python" >/dev/null || die "no $python; install Python 3.10 or newer, with its venv module"
"$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' ||
  die "$python is older than 3.10 or lacks the venv module (Debian and Ubuntu: apt install python3-venv)"
mkdir -p "$venvs"
# Another checkout may share them by a link: they are known by the place where they are, or each would replace the other's.
venvs=$(cd "$venvs" && pwd -P)

# Two builds at once must not install into the same folder. The lock goes when this process ends, however it ends.
if command -v flock >/dev/null; then
  exec 9>"$venvs/lock"
  flock 9
fi

# One after the other, in the foreground, so that Ctrl-C reaches pip as well.
for name in "${names[@]}"; do install "$name"; done
[[ ${1:-all} != all ]] || unpack_minisign
