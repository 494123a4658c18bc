#!/usr/bin/env bash
# The first process of a node, in its own network, mount and process namespaces. When it ends for any reason, the kernel kills
# everything on the node and removes its mounts and network devices.
#
#   init.sh FOLDER NAME ADDRESS GATEWAY PROGRAMS [POD_SUBNET=NODE_ADDRESS]...
#
# PROGRAMS is a list of folders like PATH.
set -euo pipefail

folder=$1 name=$2 address=$3 gateway=$4 programs=$5
shift 5

# Containers see later mounts; the machine outside does not.
mount --make-rshared /
# Private copies of the folders that containerd, the kubelet and CNI use.
for folder_to_hide in /run /var/lib /var/log; do mount -t tmpfs "$(basename $folder_to_hide)" $folder_to_hide; done

# The kubelet must be able to write these settings. They apply to the whole machine, so it writes to files instead.
for setting in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
  mkdir -p "$folder/sysctl/$(dirname $setting)"
  cat /proc/sys/$setting >"$folder/sysctl/$setting"
  mount --bind "$folder/sysctl/$setting" /proc/sys/$setting
done

# All processes of the node are in these cgroups, so that cleaning up finds them.
for controller in /sys/fs/cgroup/*/; do
  [ "$controller" != /sys/fs/cgroup/unified/ ] || continue
  group=$controller$name
  mkdir -p "$group"
  if [ -e "$group/cpuset.cpus" ]; then
    cat "${controller}cpuset.cpus" >"$group/cpuset.cpus"
    cat "${controller}cpuset.mems" >"$group/cpuset.mems"
  fi
done
# The node's programs get a cgroup next to those that the kubelet creates for pods.
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
# Enforces NetworkPolicies. It ends at once unless the kubelet has registered the node.
until kube-router --kubeconfig "$folder/kube-router.kubeconfig" --hostname-override "$name" --run-firewall=true \
  --run-router=false --run-service-proxy=false --health-port 0 --iptables-sync-period 10s; do
  sleep 0.5
done >"$folder/kube-router.log" 2>&1 &
# The node ends when one of its programs ends.
wait -n
