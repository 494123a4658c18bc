#!/usr/bin/env bash
# The first process of a node, in network, mount and process namespaces of its own: when it ends, the kernel ends all that
# runs on the node and undoes every mount and network device, however it ended.
#
#   init.sh FOLDER NAME ADDRESS GATEWAY PROGRAMS [POD_SUBNET=NODE_ADDRESS]...
set -euo pipefail

folder=$1 name=$2 address=$3 gateway=$4 programs=$5
shift 5

# Containers see what is mounted later; the machine outside does not.
mount --make-rshared /
# Fixed places of containerd, the kubelet and CNI, for this node alone.
for place in /run /var/lib /var/log; do mount -t tmpfs "$(basename $place)" $place; done

# The kubelet insists on writing these. They are the whole machine's, so it writes to a file instead.
for setting in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
  mkdir -p "$folder/sysctl/$(dirname $setting)"
  cat /proc/sys/$setting >"$folder/sysctl/$setting"
  mount --bind "$folder/sysctl/$setting" /proc/sys/$setting
done

# Every process of the node is in these groups, so that whoever cleans up finds them.
for controller in /sys/fs/cgroup/*/; do
  [ "$controller" != /sys/fs/cgroup/unified/ ] || continue
  group=$controller$name
  mkdir -p "$group"
  if [ -e "$group/cpuset.cpus" ]; then
    cat "${controller}cpuset.cpus" >"$group/cpuset.cpus"
    cat "${controller}cpuset.mems" >"$group/cpuset.mems"
  fi
done
# Its programs are in one beside those that the kubelet makes for pods.
mkdir -p "/sys/fs/cgroup/pids/$name/programs"
echo $$ >"/sys/fs/cgroup/pids/$name/programs/cgroup.procs"

ip link set lo up
until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
ip address add "$address/24" dev eth0
ip link set eth0 up
ip route add default via "$gateway"
for route in "$@"; do ip route add "${route%=*}" via "${route#*=}"; done
echo 1 >/proc/sys/net/ipv4/ip_forward

export PATH=$programs:$PATH
containerd --config "$folder/containerd.toml" >"$folder/containerd.log" 2>&1 &
until ctr version >/dev/null 2>&1; do
  kill -0 $! || exit 1
  sleep 0.05
done
kube-proxy --config "$folder/kube-proxy.yaml" --hostname-override "$name" >"$folder/kube-proxy.log" 2>&1 &
kubelet --config "$folder/kubelet.yaml" --kubeconfig "$folder/kubelet.kubeconfig" --root-dir "$folder/kubelet" \
  --hostname-override "$name" --node-ip "$address" >"$folder/kubelet.log" 2>&1 &
# A node that lacks one of them is no node.
wait -n
