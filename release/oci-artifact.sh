#!/usr/bin/env bash
# Packs a Helm chart as an OCI artifact: an image layout in a tar file, as `helm push` writes it to a registry.
#
#   oci-artifact.sh CHART.tgz FILE
#
# RELEASE is the program of this folder.
set -euo pipefail
# A command that fails in $(…) ends the script, too.
shopt -s inherit_errexit

chart=$1 file=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
layout=$scratch/layout
mkdir -p "$layout/blobs/sha256"
blob() { # blob FILE TYPE: copies it to where its digest says; prints its descriptor
  local digest
  digest=$(sha256sum "$1" | cut -d' ' -f1)
  cp "$1" "$layout/blobs/sha256/$digest"
  jq -nc --arg type "$2" --arg digest "sha256:$digest" --argjson size "$(stat -c %s "$1")" '{mediaType: $type, $digest, $size}'
}

# Its configuration is Chart.yaml, as JSON.
tar -xzOf "$chart" --wildcards '*/Chart.yaml' >"$scratch/Chart.yaml"
"$RELEASE" chart-json "$scratch/Chart.yaml" >"$scratch/config"
config=$(blob "$scratch/config" application/vnd.cncf.helm.config.v1+json)
layer=$(blob "$chart" application/vnd.cncf.helm.chart.content.v1.tar+gzip)
manifest_type=application/vnd.oci.image.manifest.v1+json
jq -n --arg type $manifest_type --argjson config "$config" --argjson layer "$layer" --slurpfile chart "$scratch/config" '{
  schemaVersion: 2, mediaType: $type, $config, layers: [$layer],
  annotations: {"org.opencontainers.image.title": $chart[0].name, "org.opencontainers.image.version": $chart[0].version,
    "org.opencontainers.image.description": $chart[0].description, "org.opencontainers.image.url": $chart[0].home}
}' >"$scratch/manifest"
manifest=$(blob "$scratch/manifest" $manifest_type)
jq -n --argjson manifest "$manifest" --slurpfile chart "$scratch/config" '{
  schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json",
  manifests: [$manifest + {annotations: {"org.opencontainers.image.ref.name": $chart[0].version}}]
}' >"$layout/index.json"
echo '{"imageLayoutVersion": "1.0.0"}' >"$layout/oci-layout"
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$layout" -cf "$file" .
