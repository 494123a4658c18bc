#!/usr/bin/env bash
# Bundles the page's modules and style sheets into ../src/page, which is committed, so that Cargo needs no npm.
#
#   build.sh          checks the types and writes the bundle
#   build.sh check    checks the types, and that the bundle is current
#   build.sh install  installs the tools in the cache folder, and prints where they are
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# The version is that of everything installed.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pingpipeline/page-$(sha256sum <"$here/package-lock.json" | cut -c1-12)
modules=$cache/node_modules

say() { echo "build.sh: $*" >&2; }
# shellcheck source=../../../testbed/downloads.sh
. "$here/../../../testbed/downloads.sh"

install() {
  have node && have npm && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' ||
    die "Node.js is missing: install Node.js 20 or newer with npm"
  mkdir -p "$cache"
  exec 9>"$cache/lock"
  flock 9
  if [ ! -e "$modules/complete" ]; then
    say "installing esbuild, TypeScript, uPlot and axe"
    cp "$here"/{package.json,package-lock.json} "$cache"
    (cd "$cache" && retry quietly npm ci --ignore-scripts --no-audit --no-fund)
    touch "$modules/complete"
  fi
  flock -u 9
}

# The licence of uPlot asks for its text in every copy.
licence() { printf '/* Written by dataplane/rpc/page/build.sh. Contains uPlot:\n%s\n*/' "$(cat "$modules/uplot/LICENSE")"; }

# esbuild and tsc look for modules in the parent folders of the sources.
bundle() { # bundle FOLDER
  local work=$1/work
  mkdir "$work"
  cp -r "$here"/{src,tsconfig.json} "$work"
  ln -s "$modules" "$work/node_modules"
  "$modules/.bin/tsc" -p "$work" >&2 || die "the page's types do not fit"
  local esbuild=("$modules/.bin/esbuild" --bundle --minify --log-level=warning --legal-comments=none)
  (cd "$work" && "${esbuild[@]}" src/main.js --format=esm --target=es2022 --banner:js="$(licence)" --outfile="$1/script.js")
  (cd "$work" && "${esbuild[@]}" src/page.css --target=chrome120,firefox120,safari17 --outfile="$1/style.css")
}

install
[ "${1:-}" != install ] || { echo "$modules"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bundle "$work"
for file in script.js style.css; do
  if [ "${1:-}" = check ]; then
    cmp -s "$work/$file" "$here/../src/page/$file" || die "src/page/$file is stale; run make page"
  else
    mv "$work/$file" "$here/../src/page/$file"
  fi
done
