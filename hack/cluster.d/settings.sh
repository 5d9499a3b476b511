# shellcheck shell=bash
# Where things live and which ports they use. Each may be set in the environment; `up` writes its choice into the
# state folder, so that later commands act on the cluster that runs.

SETTINGS=(
  WEIR_APISERVER_PORT=6443
  WEIR_ETCD_PORT=12379
  WEIR_ETCD_PEER_PORT=12380
  WEIR_KUBELET_PORT=10250
  WEIR_KUBELET_HEALTH_PORT=10248
  WEIR_CONTROLLER_MANAGER_PORT=10257
  WEIR_SCHEDULER_PORT=10259
  # Never smaller than what a benchmark writes; a test of rotation uses `rotate-log`, or lowers this for itself.
  WEIR_CONTAINER_LOG_MAX_SIZE=64Mi
  WEIR_POD_GATEWAY=10.244.0.1 # the bridge's own address, a /16
  WEIR_SERVICE_PREFIX=10.0.0  # a /24; .1 is the API server, as pods see it
)

: "${WEIR_CLUSTER_DIR:=$WEIR_CACHE/cluster}"
STATE=$WEIR_CLUSTER_DIR
PKI=$STATE/pki
CONFIG=$STATE/config
LOGS=$STATE/logs
RUN=$STATE/run
OUR_KUBECONFIG=$STATE/kubeconfig
BRIDGE=weir0

# The kubelet's cAdvisor looks for containerd on this socket only.
CONTAINERD_SOCKET=/run/containerd/containerd.sock

load_settings() {
  local setting name
  if [[ -f $STATE/settings ]]; then
    # shellcheck source=/dev/null
    . "$STATE/settings"
  fi
  for setting in "${SETTINGS[@]}"; do
    name=${setting%%=*}
    [[ -n ${!name:-} ]] || printf -v "$name" '%s' "${setting#*=}"
    export "${name?}"
  done
}

save_settings() {
  local setting name
  for setting in "${SETTINGS[@]}"; do
    name=${setting%%=*}
    printf '%s=%q\n' "$name" "${!name}"
  done >"$STATE/settings"
}

print_settings() {
  local setting
  for setting in "${SETTINGS[@]}"; do
    printf '  %s\n' "$setting"
  done
}
