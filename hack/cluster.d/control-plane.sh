# shellcheck shell=bash
# etcd, the API server, the controller manager and the scheduler; all on loopback.

start_etcd() {
  local client=http://127.0.0.1:$WEIR_ETCD_PORT peer=http://127.0.0.1:$WEIR_ETCD_PEER_PORT
  # Nothing here outlives the machine, so nothing waits for its disk.
  start_daemon etcd etcd --name weir --data-dir "$STATE/etcd" --unsafe-no-fsync \
    --listen-client-urls "$client" --advertise-client-urls "$client" \
    --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "weir=$peer"
}

start_apiserver() {
  start_daemon kube-apiserver "$KUBE_BIN/kube-apiserver" \
    --bind-address=127.0.0.1 --secure-port="$WEIR_APISERVER_PORT" --insecure-port=0 \
    --advertise-address="$WEIR_POD_GATEWAY" --service-cluster-ip-range="$WEIR_SERVICE_PREFIX.0/24" \
    --etcd-servers="http://127.0.0.1:$WEIR_ETCD_PORT" \
    --client-ca-file="$PKI/ca.crt" --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key" \
    --service-account-issuer=https://kubernetes.default.svc \
    --service-account-key-file="$PKI/service-account.pub" \
    --service-account-signing-key-file="$PKI/service-account.key" \
    --authorization-mode=Node,RBAC --allow-privileged=true \
    --kubelet-client-certificate="$PKI/kubelet-client.crt" --kubelet-client-key="$PKI/kubelet-client.key" \
    --kubelet-certificate-authority="$PKI/ca.crt" --kubelet-preferred-address-types=Hostname \
    --feature-gates=EphemeralContainers=true
}

start_controller_manager() {
  start_daemon kube-controller-manager "$KUBE_BIN/kube-controller-manager" \
    --bind-address=127.0.0.1 --port=0 --secure-port="$WEIR_CONTROLLER_MANAGER_PORT" --leader-elect=false \
    --tls-cert-file="$PKI/controller-manager.crt" --tls-private-key-file="$PKI/controller-manager.key" \
    --kubeconfig="$CONFIG/controller-manager.kubeconfig" \
    --authentication-kubeconfig="$CONFIG/controller-manager.kubeconfig" \
    --authorization-kubeconfig="$CONFIG/controller-manager.kubeconfig" \
    --root-ca-file="$PKI/ca.crt" --service-account-private-key-file="$PKI/service-account.key" \
    --use-service-account-credentials=true --flex-volume-plugin-dir="$STATE/volume-plugins" \
    --kube-api-qps=200 --kube-api-burst=400 \
    --feature-gates=EphemeralContainers=true
}

start_scheduler() {
  start_daemon kube-scheduler "$KUBE_BIN/kube-scheduler" \
    --bind-address=127.0.0.1 --port=0 --secure-port="$WEIR_SCHEDULER_PORT" --leader-elect=false \
    --tls-cert-file="$PKI/scheduler.crt" --tls-private-key-file="$PKI/scheduler.key" \
    --kubeconfig="$CONFIG/scheduler.kubeconfig" \
    --authentication-kubeconfig="$CONFIG/scheduler.kubeconfig" \
    --authorization-kubeconfig="$CONFIG/scheduler.kubeconfig" --kube-api-qps=200 --kube-api-burst=400
}

apiserver_ready() {
  curl --silent --fail --max-time 3 --cacert "$PKI/ca.crt" --cert "$PKI/admin.crt" --key "$PKI/admin.key" \
    "https://127.0.0.1:$WEIR_APISERVER_PORT/readyz"
}

etcd_ready() { curl --silent --fail --max-time 3 "http://127.0.0.1:$WEIR_ETCD_PORT/health"; }

start_control_plane() {
  start_etcd
  wait_for 30 etcd etcd_ready || { show_log etcd; return 1; }
  start_apiserver
  wait_for 60 "the API server" apiserver_ready || { show_log kube-apiserver; return 1; }
  start_controller_manager
  start_scheduler
}

# restart_apiserver DOWN-FOR: every connection is cut; the state in etcd, and all pods, stay.
restart_apiserver() {
  daemon_pid kube-apiserver >/dev/null || die "the API server of this script does not run; start it with: hack/cluster up"
  stop_daemon kube-apiserver 1
  note "the API server is down"
  sleep "$1"
  respawn_daemon kube-apiserver
  wait_for 60 "the API server" apiserver_ready || { show_log kube-apiserver; return 1; }
  note "the API server is back"
}
