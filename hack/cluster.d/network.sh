# shellcheck shell=bash
# The pods' network: one bridge, private to this machine, and the way from a pod to the API server.
#
#   pod ──weir0──► 10.0.0.1:443 (kubernetes.default.svc) ──DNAT──► 127.0.0.1:6443
#
# There is no kube-proxy: this one service is translated by hand, any other is reached by its pods' addresses, which
# are routable from this machine, or with `kubectl port-forward`.

setup_network() {
  cat /proc/sys/net/ipv4/ip_forward >"$STATE/ip_forward" # the CNI plugin turns it on
  ip link show "$BRIDGE" >/dev/null 2>&1 || ip link add "$BRIDGE" type bridge
  ip address replace "$WEIR_POD_GATEWAY/16" dev "$BRIDGE"
  ip link set "$BRIDGE" up
  mkdir -p "$CONFIG/cni"
  cat >"$CONFIG/cni/10-weir.conflist" <<JSON
{
  "cniVersion": "0.4.0",
  "name": "weir",
  "plugins": [
    {
      "type": "bridge", "bridge": "$BRIDGE", "isDefaultGateway": true, "hairpinMode": true,
      "ipam": {
        "type": "host-local", "dataDir": "$STATE/cni",
        "ranges": [[{"subnet": "${WEIR_POD_GATEWAY%.*.*}.0.0/16", "gateway": "$WEIR_POD_GATEWAY"}]]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
JSON
  if echo 1 >"/proc/sys/net/ipv4/conf/$BRIDGE/route_localnet" && _rules -A; then
    touch "$STATE/dnat"
  else
    _rules -D || true
    say "warning: no address translation on this kernel, so that pods do not reach the API server unless they use \
hostNetwork with KUBERNETES_SERVICE_HOST=127.0.0.1 and KUBERNETES_SERVICE_PORT=$WEIR_APISERVER_PORT"
  fi
}

# _rules -A|-D adds or removes them all. Pods get at the API server, and at nothing else on loopback.
_rules() {
  local action=$1 status=0 to=127.0.0.1:$WEIR_APISERVER_PORT
  _rule raw "$action" PREROUTING -i "$BRIDGE" -d 127.0.0.0/8 -j DROP || status=1
  _rule nat "$action" PREROUTING -i "$BRIDGE" -d "$WEIR_SERVICE_PREFIX.1" -p tcp --dport 443 \
    -j DNAT --to-destination "$to" || status=1
  _rule nat "$action" PREROUTING -i "$BRIDGE" -d "$WEIR_POD_GATEWAY" -p tcp --dport "$WEIR_APISERVER_PORT" \
    -j DNAT --to-destination "$to" || status=1
  # For pods with hostNetwork, and for this machine itself.
  _rule nat "$action" OUTPUT -d "$WEIR_SERVICE_PREFIX.1" -p tcp --dport 443 -j DNAT --to-destination "$to" || status=1
  return "$status"
}

_rule() {
  local table=$1 action=$2
  shift 2
  iptables --wait 5 -t "$table" -C "$@" 2>/dev/null && [[ $action == -A ]] && return 0
  iptables --wait 5 -t "$table" "$action" "$@" 2>/dev/null
}

remove_network() {
  if [[ -f $STATE/dnat ]]; then
    _rules -D || true
    rm -f "$STATE/dnat"
  fi
  ip link delete "$BRIDGE" 2>/dev/null || true
  if [[ -f $STATE/ip_forward && $(<"$STATE/ip_forward") == 0 ]]; then
    echo 0 >/proc/sys/net/ipv4/ip_forward
  fi
}
