# shellcheck shell=bash
# The node: containerd and the kubelet.

start_containerd() {
  if curl --silent --max-time 2 --unix-socket "$CONTAINERD_SOCKET" http://localhost/ >/dev/null 2>&1 ||
    (($? != 7)); then
    die "another containerd already listens on $CONTAINERD_SOCKET, and the kubelet needs that very socket: stop it \
for the time of the tests, or point KUBECONFIG at a cluster of your own"
  fi
  cat >"$CONFIG/containerd.toml" <<TOML
version = 2
root = "$STATE/containerd/root"
state = "$STATE/containerd/run"
[grpc]
  address = "$CONTAINERD_SOCKET"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "weir.test/pause:1"
  restrict_oom_score_adj = true # without CAP_SYS_RESOURCE, runc could not set what the kubelet asks for
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "$(_snapshotter)"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$CONFIG/cni"
TOML
  start_daemon containerd containerd --config "$CONFIG/containerd.toml"
  wait_for 30 containerd node_ctr version || { show_log containerd; return 1; }
}

# overlayfs, unless the state folder is itself on one (a container on a workstation, say).
_snapshotter() {
  local try=$STATE/overlay-try answer=native
  mkdir -p "$try"/{lower,upper,work,merged}
  if mount -t overlay overlay -o "lowerdir=$try/lower,upperdir=$try/upper,workdir=$try/work" "$try/merged" 2>/dev/null; then
    umount "$try/merged"
    answer=overlayfs
  fi
  rm -rf "$try"
  printf '%s' "$answer"
}

node_ctr() { ctr --address "$CONTAINERD_SOCKET" --namespace k8s.io "$@"; }

write_kubelet_config() {
  cat >"$CONFIG/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 127.0.0.1
port: $WEIR_KUBELET_PORT
healthzPort: $WEIR_KUBELET_HEALTH_PORT
tlsCertFile: $PKI/node.crt
tlsPrivateKeyFile: $PKI/node.key
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $PKI/ca.crt}
authorization: {mode: Webhook}
featureGates: {EphemeralContainers: true}
cgroupDriver: cgroupfs
failSwapOn: false
oomScoreAdj: 0
makeIPTablesUtilChains: false
nodeStatusUpdateFrequency: 2s
maxPods: 250
kubeAPIQPS: 200
kubeAPIBurst: 400
containerLogMaxSize: $WEIR_CONTAINER_LOG_MAX_SIZE
containerLogMaxFiles: 5
volumePluginDir: $STATE/kubelet/volume-plugins
# Images are loaded by hand and cannot be pulled again: never collect them, and never evict for a full disk.
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 50Mi, nodefs.available: 100Mi, imagefs.available: 100Mi}
YAML
}

start_kubelet() {
  write_kubelet_config
  start_daemon kubelet "$KUBE_BIN/kubelet" --config="$CONFIG/kubelet.yaml" \
    --kubeconfig="$CONFIG/kubelet.kubeconfig" --hostname-override=localhost --root-dir="$STATE/kubelet" \
    --cert-dir="$PKI" --container-runtime=remote --container-runtime-endpoint="unix://$CONTAINERD_SOCKET"
}

node_ready() {
  our_kubectl get node localhost -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}{.spec.taints}' |
    grep -qx True && our_kubectl get --namespace default serviceaccount default -o name
}

wait_for_node() { wait_for 60 "the node to be ready" node_ready || { show_log kubelet; return 1; }; }

# restart_kubelet applies a changed configuration. Pods keep running.
restart_kubelet() {
  daemon_pid kubelet >/dev/null || die "the kubelet of this script does not run; start it with: hack/cluster up"
  write_kubelet_config
  stop_daemon kubelet
  respawn_daemon kubelet
  wait_for 60 "the kubelet" curl --silent --fail --max-time 3 "http://127.0.0.1:$WEIR_KUBELET_HEALTH_PORT/healthz" ||
    { show_log kubelet; return 1; }
}

# rotate_log NAMESPACE POD CONTAINER does at once what the kubelet does when a log has grown too large.
rotate_log() {
  local namespace=$1 pod=$2 container=$3 uid id log
  uid=$(our_kubectl get pod --namespace "$namespace" "$pod" -o 'jsonpath={.metadata.uid}') || exit 1
  id=$(our_kubectl get pod --namespace "$namespace" "$pod" -o "jsonpath={range .status['containerStatuses',\
'initContainerStatuses','ephemeralContainerStatuses'][?(@.name==\"$container\")]}{.containerID}{end}")
  id=${id#containerd://}
  [[ -n $id ]] || die "pod $namespace/$pod has no container named $container that was started"
  log=$(find "/var/log/pods/${namespace}_${pod}_$uid/$container" -name '*.log' -printf '%f\t%p\n' |
    sort -n | tail -n 1 | cut -f 2)
  [[ -n $log ]] || die "no log file of $namespace/$pod/$container"
  mv "$log" "$log.$(date +%Y%m%d-%H%M%S)"
  "$KUBE_BIN/weir-reopen-log" "unix://$CONTAINERD_SOCKET" "$id"
}
