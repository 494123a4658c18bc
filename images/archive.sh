#!/usr/bin/env bash
# Packs a root folder as an image archive with one layer (docker-archive), without a container engine. The same folder always
# produces the same bytes.
#
#   archive.sh ROOT NAME:TAG FILE [CONFIG]   CONFIG: JSON with User, Entrypoint, Env … of the image
set -euo pipefail

root=$1 name=$2 file=$3 config=${4:-}
[ -n "$config" ] || config='{}'
case $(uname -m) in
  x86_64) architecture=amd64 ;;
  aarch64) architecture=arm64 ;;
  *) echo "archive.sh: unsupported architecture $(uname -m)" >&2; exit 1 ;;
esac

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
pack() { tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$1" -cf "$2" .; }

mkdir "$scratch/image"
pack "$root" "$scratch/image/layer.tar"
layer=$(sha256sum "$scratch/image/layer.tar" | cut -d' ' -f1)
jq -n --arg architecture "$architecture" --arg layer "sha256:$layer" --argjson config "$config" '{
  $architecture, os: "linux", created: "1970-01-01T00:00:00Z", $config,
  rootfs: {type: "layers", diff_ids: [$layer]}, history: [{created: "1970-01-01T00:00:00Z", created_by: "archive.sh"}]
}' >"$scratch/image/config.json"
jq -n --arg name "$name" '[{Config: "config.json", RepoTags: [$name], Layers: ["layer.tar"]}]' >"$scratch/image/manifest.json"
pack "$scratch/image" "$scratch/archive.tar"
mkdir -p "$(dirname "$file")"
mv "$scratch/archive.tar" "$file"
