# shellcheck shell=bash
# Taking everything down: what was started is stopped, by its recorded identity, and what was made is removed.

cluster_down() {
  stop_daemon kubelet 5
  _stop_pods
  stop_daemon kube-scheduler 2
  stop_daemon kube-controller-manager 2
  stop_daemon kube-apiserver 1
  stop_daemon etcd 5
  stop_daemon containerd 5
  _stop_shims
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

# Pods first, while containerd can still do it: their processes, then their network namespaces.
_stop_pods() {
  local sandboxes namespaces
  daemon_pid containerd >/dev/null && node_ctr version >/dev/null 2>&1 || return 0
  mapfile -t sandboxes < <(node_ctr containers ls -q 'labels."io.cri-containerd.kind"==sandbox' 2>/dev/null)
  mapfile -t namespaces < <(
    for sandbox in "${sandboxes[@]}"; do node_ctr containers info "$sandbox" 2>/dev/null; done |
      jq -r '.Spec.linux.namespaces[]? | select(.type == "network") | .path // empty'
  )
  # A pause container is killed with its pod's others: a task's death frees the task.
  _each_task kill --all --signal KILL
  wait_for 10 "containers to end" _no_running_task || true
  _each_task delete --force
  for namespace in "${namespaces[@]}"; do
    [[ $namespace == /*/netns/cni-* ]] || continue
    umount "$namespace" 2>/dev/null || true
    rm -f "$namespace"
  done
}

_each_task() {
  node_ctr tasks ls -q 2>/dev/null |
    xargs -r -n 1 -P 4 ctr --address "$CONTAINERD_SOCKET" --namespace k8s.io tasks "$@" >/dev/null 2>&1 || true
}

_no_running_task() { ! node_ctr tasks ls 2>/dev/null | grep -q RUNNING; }

# A shim works in its container's bundle, which is in our state folder: that is how we know that it is ours.
_stop_shims() {
  local process
  for process in /proc/[0-9]*; do
    [[ $(readlink "$process/cwd" 2>/dev/null) == "$STATE"/containerd/run/* ]] || continue
    [[ $(tr '\0' ' ' <"$process/cmdline" 2>/dev/null) == *containerd-shim* ]] || continue
    kill -KILL "${process#/proc/}" 2>/dev/null || true
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
