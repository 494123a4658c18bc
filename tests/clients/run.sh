#!/usr/bin/env bash
# Checks standard clients, with their default settings, against a running server. Installs what is missing of them in the cache folder
# and generates their code there from proto/. Prints a line per client and case; fails if one fails.
#
#   run.sh SERVER_URL ADMIN_URL [LANGUAGE...]
#   run.sh install [LANGUAGE...]
#   run.sh example LANGUAGE NAME SERVER_URL [ARGUMENT]    runs NAME (count or stream) of examples/LANGUAGE
#
# Languages: go (connect-go, grpc-go), python (connectrpc, grpcio), typescript (connect-node, connect-web, grpc-js), shell (curl, grpcurl).
# Default: all of these. There is also java (grpc-java), which has examples only.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
protos=$root/proto standard=$root/dataplane/proto/standard examples=$root/examples
shared_cache=${XDG_CACHE_HOME:-$HOME/.cache}/pingpipeline
# The version is that of everything installed.
pins=("$here"/go/go.sum "$here"/python/requirements.txt "$here"/typescript/package-lock.json)
cache=$shared_cache/clients-$(cat "${pins[@]}" | sha256sum | cut -c1-12)

say() { echo "run.sh: $*" >&2; }
# shellcheck source=../../testbed/downloads.sh
. "$root/testbed/downloads.sh"
usage() { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2; exit 2; }

# Removes partial results whenever this script ends.
scratch=()
trap '[ ${#scratch[@]} -eq 0 ] || rm -rf "${scratch[@]}"' EXIT

generate() { quietly "$shared_cache/bin/buf" generate "$@"; }

# With the flags of connectconformance, Go reuses the standard library that it compiled for it.
go_build() { # go_build OUTPUT PACKAGE...
  have go || die "go is missing: install Go 1.26 or newer"
  CGO_ENABLED=0 retry quietly nice go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$@"
}

# Builds tools of go.mod into the cache.
go_tools() { # go_tools PACKAGE...
  local package missing=()
  for package in "$@"; do
    [ -x "$cache/bin/${package##*/}" ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  mkdir -p "$cache/bin"
  (cd "$here/go" && go_build "$cache/bin/" "${missing[@]}")
}

# prepare_LANGUAGE WORK builds into the empty folder WORK, which then becomes the language's.
prepare_go() {
  say "building connect-go and grpc-go clients (a minute the first time)"
  go_tools connectrpc.com/connect/cmd/protoc-gen-connect-go google.golang.org/grpc/cmd/protoc-gen-go-grpc \
    google.golang.org/protobuf/cmd/protoc-gen-go
  "$root/testbed/install.sh" buf
  cp -r "$here/go/." "$1"
  cp -r "$examples/go" "$1/examples"
  PATH=$cache/bin:$PATH generate "$protos" --template "$1/buf.gen.yaml" -o "$1"
  (cd "$1" && go_build . . ./examples/count ./examples/stream)
}

prepare_python() {
  local python=$cache/venv/bin/python
  have python3 && python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    die "Python is missing: install Python 3.11 or newer with pip and venv (on Debian: python3, python3-venv)"
  if [ ! -e "$cache/venv/complete" ]; then
    say "installing connectrpc and grpcio"
    rm -rf "$cache/venv"
    quietly python3 -m venv "$cache/venv"
    retry quietly "$python" -m pip install -q --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
      -r "$here/python/requirements.txt"
    touch "$cache/venv/complete"
  fi
  cp "$here"/python/*.py "$1"
  cp -r "$examples/python" "$1/examples"
  mkdir "$1/connect" "$1/grpc"
  local protoc=(quietly env PATH="$cache/venv/bin:$PATH" "$python" -m grpc_tools.protoc -I "$protos" -I "$standard")
  "${protoc[@]}" --py_out="$1/connect" --connectrpc_out="$1/connect" "$protos"/ping/v1/*.proto google/rpc/error_details.proto
  "${protoc[@]}" --python_out="$1/grpc" --grpc_python_out="$1/grpc" "$protos"/ping/v1/*.proto
}

prepare_typescript() {
  local modules=$cache/node_modules
  have node && have npm && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' ||
    die "Node.js is missing: install Node.js 20 or newer with npm"
  if [ ! -e "$modules/complete" ]; then
    say "installing connect-node, connect-web and grpc-js"
    cp "$here"/typescript/{package.json,package-lock.json} "$cache"
    (cd "$cache" && retry quietly npm ci --ignore-scripts --no-audit --no-fund)
    touch "$modules/complete"
  fi
  "$root/testbed/install.sh" buf
  cp -r "$here/typescript/." "$1"
  cp -r "$examples/typescript" "$1/examples"
  local input
  # Node looks for modules in the parent folder, too.
  for input in "$protos" "$standard" "$1/proto"; do
    PATH=$modules/.bin:$PATH generate "$input" --template "$1/buf.gen.yaml" -o "$1"
  done
  quietly "$modules/.bin/tsc" -p "$1"
}

prepare_shell() {
  have curl || die "curl is missing: install curl"
  [ -x "$cache/bin/grpcurl" ] || say "building grpcurl (a minute or two)"
  go_tools github.com/fullstorydev/grpcurl/cmd/grpcurl
}

prepare_java() {
  have javac && have mvn || die "a JDK or Maven is missing: install JDK 17 or newer and Maven (on Debian: openjdk-17-jdk-headless, maven)"
  say "installing grpc-java (a minute or two the first time)"
  cp -r "$examples/java/." "$1"
  (cd "$1" && retry quietly mvn -q -B -C -ntp -Dprotos="$protos" prepare-package)
}

run_go() { "$cache/go/clients" "$@"; }
run_python() {
  local status=0
  PYTHONPATH=$cache/python/connect "$cache/venv/bin/python" "$cache/python/connect_clients.py" "$@" || status=1
  PYTHONPATH=$cache/python/grpc "$cache/venv/bin/python" "$cache/python/grpc_clients.py" "$@" || status=1
  return $status
}
run_typescript() { node "$cache/typescript/out/src/main.js" "$@" "$protos" "$standard"; }
run_shell() {
  local status=0
  "$here/shell/curl.sh" "$@" || status=1
  "$here/shell/grpcurl.sh" "$cache/bin/grpcurl" "$@" "$protos" || status=1
  return $status
}

example_go() { "$cache/go/$1" "${2#http://}" "${@:3}"; }
example_python() { PYTHONPATH=$cache/python/grpc "$cache/venv/bin/python" "$cache/python/examples/$1.py" "${2#http://}" "${@:3}"; }
example_typescript() { node "$cache/typescript/out/examples/$1.js" "${@:2}"; }
example_java() { java -cp "$cache/java/target/classes:$cache/java/target/dependency/*" "${1^}" "${2#http://}" "${@:3}"; }

# What a language's folder was built from.
built_from() {
  local folders=("$here/run.sh" "$protos" "$standard") folder
  for folder in "$here/$1" "$examples/$1"; do
    [ ! -d "$folder" ] || folders+=("$folder")
  done
  find "${folders[@]}" -type f -print0 | sort -z | xargs -0 cat | sha256sum
}
is_prepared() { [ "$(cat "$cache/$1/built-from" 2>/dev/null)" = "$(built_from "$1")" ]; }

prepare() {
  local language=$1 work
  ! is_prepared "$language" || return 0
  work=$(mktemp -d "$cache/$language.XXXXXX")
  scratch+=("$work")
  "prepare_$language" "$work"
  built_from "$language" >"$work/built-from"
  rm -rf "${cache:?}/$language"
  mv -T "$work" "$cache/$language"
}

urls=() example=()
case ${1:-} in
  example)
    [[ ${4:-} == http://* ]] || usage
    example=("${@:3}")
    declare -F "example_$2" >/dev/null || usage
    set -- "$2"
    ;;
  http://*)
    [[ ${2:-} == http://* ]] || usage
    urls=("${1%/}" "${2%/}")
    shift 2
    ;;
  install) shift ;;
  *) usage ;;
esac
[ $# -gt 0 ] || set -- go python typescript shell
for language in "$@"; do
  declare -F "prepare_$language" >/dev/null || usage
done

# Several of these scripts may run at a time; one prepares while the others wait.
mkdir -p "$cache"
exec 9>"$cache/lock"
flock -s 9
for language in "$@"; do
  is_prepared "$language" || { flock -u 9; flock 9; prepare "$language"; flock -s 9; }
done
[ ${#example[@]} = 0 ] || { "example_$1" "${example[@]}"; exit; }
[ ${#urls[@]} -gt 0 ] || exit 0

failed=()
for language in "$@"; do
  "run_$language" "${urls[@]}" || failed+=("$language")
done
[ ${#failed[@]} = 0 ] || die "failed: ${failed[*]}"
