#!/usr/bin/env bash
# Builds everything that a release consists of. `make release VERSION=0.1.0` calls it; docs/how-to/release.md lists the files.
#
#   build.sh VERSION
#
# TO           folder to write into, by default target/release-artifacts
# ARCHS        architectures, by default both. For one that is not this machine's, sysroot.sh fetches a compiler and libraries.
# BINARIES     folder with all programs for this machine's architecture: nothing is compiled. For tests.
# URL          where the files can be downloaded
# BUILDER      URI of who builds it, for the provenance
# LEVEL        compression level, 1 to 9
set -euo pipefail
# A command that fails in $(…) ends the script, too.
shopt -s inherit_errexit

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=../testbed/control-plane/versions.env
. testbed/control-plane/versions.env
helm=${XDG_CACHE_HOME:-$HOME/.cache}/pingpipeline/helm-$HELM_VERSION/helm
die() { echo "build.sh: $*" >&2; exit 1; }
say() { echo "release: $*" >&2; }

host=$(uname -m)
archs=${ARCHS:-x86_64 aarch64}
stated=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
charted=$(sed -n 's/^version: //p' charts/ping-operator/Chart.yaml)
export VERSION=${1:-} LEVEL=${LEVEL:-6}
to=${TO:-target/release-artifacts} url=${URL:-https://pingpipeline.io/releases/v$VERSION}

[ -n "$VERSION" ] || die "which version? For example: make release VERSION=$stated"
[ "$stated" = "$VERSION" ] || die "Cargo.toml has version $stated, not $VERSION: change it there, and commit"
[ "$charted" = "$VERSION" ] || die "charts/ping-operator/Chart.yaml has version $charted, not $VERSION: change version and appVersion, and commit"
for arch in $archs; do
  case $arch in x86_64 | aarch64) ;; *) die "unknown architecture $arch in ARCHS: use x86_64 and aarch64" ;; esac
  [ -z "${BINARIES:-}" ] || [ "$arch" = "$host" ] || die "BINARIES has programs for $host, so set ARCHS=$host"
done
[ -x "$helm" ] || die "helm is missing: run testbed/control-plane/install.sh helm"

started=$(date -u +%Y-%m-%dT%H:%M:%SZ)
commit=$(git rev-parse HEAD)
[ -z "$(git status --porcelain)" ] || say "the work tree has uncommitted changes: the provenance names commit $commit all the same"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
created=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)

# Programs of this machine that write documents and pages.
tools=${BINARIES:-target/debug}
[ -n "${BINARIES:-}" ] || cargo build --quiet --locked --bin release --bin pingctl --bin pingd
tools=$(realpath "$tools")
export RELEASE=$tools/release

rm -rf "$to"
mkdir -p "$to"
TO=$(realpath "$to")
scratch=$(mktemp -d)
export TO
trap 'rm -rf "$scratch"' EXIT

compile() { # compile ARCH: prints the folder of its programs
  local options=()
  if [ -n "${BINARIES:-}" ]; then
    echo "$BINARIES"
  else
    say "building for $1: several minutes"
    [ "$1" = "$host" ] || options=(--target "$1-unknown-linux-gnu")
    cargo build --release --locked -p pingd -p pingctl -p ping-embedded -p kubectl-pingpipeline -p ping-operator --bins "${options[@]}" >&2
    [ "$1" = "$host" ] && echo target/release || echo "target/$1-unknown-linux-gnu/release"
  fi
}

# Without the environment of this machine, whose values would be shown as defaults.
pages() { env -i HOME=/nonexistent "$tools/$1" man --folder "$scratch/pages/man/$1"; }
pages pingctl
pages pingd
mkdir -p "$scratch/pages/man/pingd-dev" "$scratch/pages/completions"
mv "$scratch/pages/man/pingd/pingd-dev.1" "$scratch/pages/man/pingd-dev/"
for shell in bash zsh fish; do "$tools/pingctl" completions $shell >"$scratch/pages/completions/$shell"; done

for arch in $archs; do
  (
    if [ "$arch" != "$host" ]; then
      release/sysroot.sh "$arch" >"$scratch/environment"
      # shellcheck disable=SC1091
      . "$scratch/environment"
    fi
    built=$(compile "$arch")
    say "packing for $arch"
    ARCHITECTURE=$arch release/architecture.sh "$built" "$scratch/pages"
  )
done

pack() { # pack NAME: packs the folder NAME-VERSION in $scratch/NAME
  tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -C "$scratch/$1" -cf - "$1-$VERSION" |
    gzip -n >"$TO/$1-$VERSION.tar.gz"
}

say "packing the chart and examples"
"$helm" package charts/ping-operator --destination "$TO" >/dev/null
release/oci-artifact.sh "$TO/ping-operator-$VERSION.tgz" "$TO/ping-operator-chart-$VERSION.oci.tar"
cp charts/plain/install.yaml "$TO/ping-operator-$VERSION.yaml"

bundle=$scratch/ping-operator-bundle/ping-operator-bundle-$VERSION
"$helm" template ping-operator charts/ping-operator --namespace namespace-of-olm --no-hooks | "$RELEASE" bundle \
  --namespace namespace-of-olm --chart charts/ping-operator/Chart.yaml --example examples/demo.yaml --icon docs/images/icon.svg \
  --created "$created" "$bundle"
pack ping-operator-bundle
install -D -m 644 -t "$scratch/pingpipeline-examples/pingpipeline-examples-$VERSION" examples/*.yaml LICENSE
pack pingpipeline-examples
"$RELEASE" krew --version "$VERSION" --url "$url" "$TO" >"$TO/pingpipeline.krew.yaml"

"$RELEASE" provenance --version "$VERSION" --commit "$commit" --started "$started" --builder "${BUILDER:-https://pingpipeline.io/docs/how-to/release.html#by-hand}" \
  $(printf -- '--architecture %s ' $archs) "$TO" >"$scratch/provenance"
mv "$scratch/provenance" "$TO/pingpipeline-$VERSION.provenance.json"
(cd "$TO" && sha256sum -- * >"$scratch/sums" && mv "$scratch/sums" SHA256SUMS)
say "$(find "$TO" -type f | wc -l) files in $to"
