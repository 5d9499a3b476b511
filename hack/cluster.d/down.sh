# shellcheck shell=bash
# Taking everything down: what was started is stopped, by its recorded identity, and what was made is removed.

cluster_down() {
  stop_daemon kubelet 5
  stop_daemon containerd 5
  _stop_pods
  stop_daemon kube-scheduler 2
  stop_daemon kube-controller-manager 2
  stop_daemon kube-apiserver 1
  stop_daemon etcd 5
  _unmount
  remove_network
  _remove_cgroups
  _remove_pod_logs
  _remove_folders
  if grep -q " $STATE/" /proc/self/mountinfo; then
    die "something is still mounted below $STATE; it is left as it is"
  fi
  rm -rf --one-file-system "$STATE"
}

# What runs in containers, by containerd's own records in our state folder, so that it works without containerd, too.
# A container's first process takes the others with it; a shim works in its container's bundle, which tells it is ours.
_stop_pods() {
  local bundles=$STATE/containerd/run/io.containerd.runtime.v2.task/k8s.io bundle pid namespace process id address
  [[ -d $bundles ]] || return 0
  for bundle in "$bundles"/*/; do
    pid=$(cat "$bundle/init.pid" 2>/dev/null) || continue
    grep -q /kubepods "/proc/$pid/cgroup" 2>/dev/null || continue
    kill -KILL "$pid" 2>/dev/null || true
  done
  for process in /proc/[0-9]*; do
    [[ $(readlink "$process/cwd" 2>/dev/null) == "$bundles"/* ]] || continue
    [[ $(tr '\0' ' ' 2>/dev/null <"$process/cmdline") == *containerd-shim* ]] || continue
    kill -KILL "${process#/proc/}" 2>/dev/null || true
  done
  while read -r namespace; do
    umount "$namespace" 2>/dev/null || true
    rm -f "$namespace"
  done < <(find "$bundles" -mindepth 2 -maxdepth 2 -name config.json -exec jq -r \
    '.linux.namespaces[]? | select(.type == "network") | .path // empty' {} + | grep -x '/.*/netns/cni-[^/]*' | sort -u)
  for bundle in "$bundles"/*/; do
    id=$(basename "$bundle")
    address=$(cat "$bundle/address" 2>/dev/null) || address=
    rm -rf "/run/containerd/runc/k8s.io/${id:?}"
    rm -f "/var/lib/cni/results/"*"-$id-"* "${address#unix://}"
  done
}

_unmount() {
  local target
  while read -r target; do
    umount --lazy "$target" 2>/dev/null || true
  done < <(awk -v below="$STATE/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo | sort -r)
}

_remove_cgroups() {
  local root
  for root in /sys/fs/cgroup /sys/fs/cgroup/*; do
    [[ -d $root/kubepods ]] || continue
    find "$root/kubepods" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
}

# Folders outside our own that the kubelet, containerd and the CNI plugins insist on; kept when somebody else uses
# them, too.
_remove_folders() {
  rm -f "$CONTAINERD_SOCKET" "$CONTAINERD_SOCKET.ttrpc" \
    /var/lib/kubelet/device-plugins/{DEPRECATION,kubelet_internal_checkpoint,kubelet.sock}
  rmdir /var/lib/kubelet/{device-plugins,plugins,} /run/containerd/{s,runc/k8s.io,runc,} /run/netns \
    /var/log/{pods,containers} /var/lib/cni/{results,} 2>/dev/null || true
}

# What lay there before `up` is somebody else's.
remember_pod_logs() {
  ls -A /var/log/pods 2>/dev/null >"$STATE/foreign-pod-logs" || true
}

_remove_pod_logs() {
  local pod
  for pod in /var/log/pods/*; do
    [[ -d $pod ]] || continue
    grep -qxF "${pod##*/}" "$STATE/foreign-pod-logs" 2>/dev/null || rm -rf "$pod"
  done
  find /var/log/containers -xtype l -delete 2>/dev/null || true
}
