#!/usr/bin/env bash
# Packs a root folder as an image archive with one layer, without a container engine: an OCI image layout that is a docker-archive, too, as
# `docker save` writes it. The same folder always produces the same bytes.
#
#   archive.sh ROOT NAME:TAG FILE [CONFIG]   CONFIG: JSON with User, Entrypoint, Env … of the image
#
# ARCHITECTURE=x86_64|aarch64 is that of the programs; by default this machine's. COMPRESS=yes compresses the layer, as registries
# keep it, at LEVEL 1 to 9.
set -euo pipefail

root=$1 name=$2 file=$3 config=${4:-}
[ -n "$config" ] || config='{}'
case ${ARCHITECTURE:=$(uname -m)} in
  x86_64) architecture=amd64 ;;
  aarch64) architecture=arm64 ;;
  *) echo "archive.sh: unsupported architecture $ARCHITECTURE" >&2; exit 1 ;;
esac
# A name without a registry is one of Docker's, everywhere.
reference=$name
[[ ${name%%/*} == *[.:]* ]] || reference=docker.io/$name

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
image=$scratch/image
mkdir -p "$image/blobs/sha256"
pack() { tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$1" -cf "$2" .; }
sha256() { sha256sum "$1" | cut -d' ' -f1; }
blob() { # blob FILE: moves it to where its digest says; prints the digest
  local digest
  digest=$(sha256 "$1")
  mv "$1" "$image/blobs/sha256/$digest"
  echo "$digest"
}
size() { stat -c %s "$image/blobs/sha256/$1"; }

pack "$root" "$scratch/layer"
diff_id=$(sha256 "$scratch/layer") layer_type=application/vnd.oci.image.layer.v1.tar
if [ "${COMPRESS:-}" = yes ]; then
  gzip -n "-${LEVEL:-6}" "$scratch/layer"
  mv "$scratch/layer.gz" "$scratch/layer"
  layer_type+=+gzip
fi
layer=$(blob "$scratch/layer")

jq -n --arg architecture "$architecture" --arg layer "sha256:$diff_id" --argjson config "$config" '{
  $architecture, os: "linux", created: "1970-01-01T00:00:00Z", $config,
  rootfs: {type: "layers", diff_ids: [$layer]}, history: [{created: "1970-01-01T00:00:00Z", created_by: "archive.sh"}]
}' >"$scratch/config"
config=$(blob "$scratch/config")

manifest_type=application/vnd.oci.image.manifest.v1+json
jq -n --arg type $manifest_type --arg config "sha256:$config" --argjson config_size "$(size "$config")" \
  --arg layer "sha256:$layer" --argjson layer_size "$(size "$layer")" --arg layer_type $layer_type '{
  schemaVersion: 2, mediaType: $type,
  config: {mediaType: "application/vnd.oci.image.config.v1+json", digest: $config, size: $config_size},
  layers: [{mediaType: $layer_type, digest: $layer, size: $layer_size}]
}' >"$scratch/manifest"
manifest=$(blob "$scratch/manifest")

jq -n --arg type $manifest_type --arg digest "sha256:$manifest" --argjson size "$(size "$manifest")" --arg reference "$reference" \
  --arg tag "${name##*:}" --arg architecture $architecture '{
  schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json",
  manifests: [{mediaType: $type, $digest, $size, platform: {$architecture, os: "linux"},
    annotations: {"io.containerd.image.name": $reference, "org.opencontainers.image.ref.name": $tag}}]
}' >"$image/index.json"
echo '{"imageLayoutVersion": "1.0.0"}' >"$image/oci-layout"
jq -n --arg name "$name" --arg config "blobs/sha256/$config" --arg layer "blobs/sha256/$layer" \
  '[{Config: $config, RepoTags: [$name], Layers: [$layer]}]' >"$image/manifest.json"

pack "$image" "$scratch/archive.tar"
mkdir -p "$(dirname "$file")"
mv "$scratch/archive.tar" "$file"
