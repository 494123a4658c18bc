#!/usr/bin/env bash
# Builds the cluster's third-party images from what install.sh and Debian installed on this machine. For tests only: the images
# are not minimised. Does nothing if they already exist. Prints the folder of the archives.
#
#   images.sh            what every cluster needs
#   images.sh backups    what a cluster with backups also needs
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
images=$here/../../images
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pingpipeline
# shellcheck source=../control-plane/versions.env
. "$here/../control-plane/versions.env"
kafka_version=4.3.1
kafka=$cache/kafka-$kafka_version
postgres_version=15
postgres=/usr/lib/postgresql/$postgres_version
java=$(dirname "$(dirname "$(readlink -f "$(command -v java)")")")
# Debian's, for which install.sh installed packages.
python=$(readlink -f /usr/bin/python3)
group=${1:-cluster}
versions=$({
  cat "$0" "$images/rootfs.sh" "$images/archive.sh" "$here"/../control-plane/{versions.env,barman-cloud/requirements.txt}
  $postgres/bin/postgres --version
  redis-server --version
  java -version 2>&1
  "$python" --version
  echo "$kafka"
} | sha256sum | cut -c1-12)
to=$cache/$group-images-$versions
if [ -d "$to" ]; then echo "$to"; exit; fi

scratch=$(mktemp -d "$cache/.$group-images.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
shell="/bin/sh /bin/cat /bin/cp /bin/mkdir /bin/rm /bin/ls /bin/chmod /bin/mv /bin/date /bin/sleep /usr/bin/env /usr/bin/id"
# What `kubectl pingpipeline drill disk` runs in the containers of Postgres and Kafka.
disk="/bin/dd /bin/df /usr/bin/head /usr/bin/timeout /usr/bin/fallocate"

image() { # image NAME TAG CONFIG PATH...
  local name=$1 tag=$2 config=$3
  shift 3
  echo "images.sh: testbed/$name:$tag" >&2
  # shellcheck disable=SC2068
  "$images/rootfs.sh" "$scratch/$name" $@
  [ ! -f "$scratch/$name.passwd" ] || cat "$scratch/$name.passwd" >>"$scratch/$name/etc/passwd"
  "$images/archive.sh" "$scratch/$name" "testbed/$name:$tag" "$scratch/to/$name.tar" "$config"
  rm -rf "${scratch:?}/$name"
}

postgres_user='postgres:x:26:26:postgres:/var/lib/postgresql:/bin/sh'
path='"PATH=/usr/local/bin:/usr/bin:/bin"'

cluster() {
  image pause 1 '{"Entrypoint": ["/usr/bin/sleep", "infinity"], "User": "65532"}' /usr/bin/sleep
  image coredns "$COREDNS_VERSION" '{"Entrypoint": ["/coredns"]}' "$cache/coredns-$COREDNS_VERSION/coredns=/coredns"
  # The same file is both the operator and the instance manager of its Postgres pods.
  local manager=$cache/cnpg-$CNPG_VERSION/manager
  image cloudnative-pg "$CNPG_VERSION" '{"Entrypoint": ["/manager"], "User": "10001"}' \
    "$manager=/manager" "$manager=/operator/manager_amd64"
  # Without the optional just-in-time compiler, which is larger than everything else.
  echo "$postgres_user" >"$scratch/postgresql.passwd"
  mkdir "$scratch/lib"
  find $postgres/lib -maxdepth 1 -name '*.so' ! -name 'llvmjit*' -exec cp {} "$scratch/lib/" \;
  image postgresql $postgres_version "{\"Env\": [\"PATH=$postgres/bin:/usr/local/bin:/usr/bin:/bin\"], \"User\": \"26\"}" \
    "$shell $disk /usr/bin/locale $postgres/bin $scratch/lib=$postgres/lib /usr/share/postgresql/$postgres_version /usr/lib/locale/C.utf8
     /usr/share/zoneinfo"
  image kafka $kafka_version "{\"Env\": [\"PATH=$java/bin:/usr/bin:/bin\"], \"User\": \"65532\"}" \
    "$shell $disk $java/bin $java/conf $java/lib /etc/java-17-openjdk $kafka=/opt/kafka/libs $cache/kafka-tools-$kafka_version=/opt/kafka/tools"
  image redis 7 "{\"Env\": [$path], \"User\": \"65532\"}" "$shell /usr/bin/redis-server /usr/bin/redis-cli"
}

# One image of three programs: the Barman Cloud plugin of CloudNativePG, the sidecar that it adds to Postgres pods, and an object store.
backups() {
  local folder=$cache/barman-cloud-$BARMAN_CLOUD_PLUGIN_VERSION
  echo "$postgres_user" >"$scratch/barman-cloud.passwd"
  image barman-cloud "$BARMAN_CLOUD_PLUGIN_VERSION" "{\"Entrypoint\": [\"/manager\"], \"User\": \"26\",
    \"Env\": [\"PATH=/opt/python/bin:/usr/bin:/bin\", \"PYTHONPATH=/opt/python\", \"PYTHONDONTWRITEBYTECODE=1\"]}" \
    "$shell /bin/tar $folder/manager=/manager $folder/python=/opt/python $python=/usr/bin/python3 /usr/lib/$(basename "$python")"
}

case $group in
  cluster | backups) "$group" ;;
  *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac
mv -T "$scratch/to" "$to"
# Removes the images of other versions.
find "$cache" -maxdepth 1 -name "$group-images-*" ! -path "$to" -exec rm -rf {} +
echo "$to"
