# shellcheck shell=bash
# Keys, certificates and kubeconfigs: one authority for everything, made anew with each cluster.

make_pki() {
  (umask 077 && mkdir -p "$PKI")
  openssl ecparam -name prime256v1 -genkey -noout -out "$PKI/ca.key" 2>/dev/null
  openssl req -x509 -new -sha256 -key "$PKI/ca.key" -days 365 -subj /CN=weir-test-ca -out "$PKI/ca.crt"
  openssl genrsa -out "$PKI/service-account.key" 2048 2>/dev/null
  openssl rsa -in "$PKI/service-account.key" -pubout -out "$PKI/service-account.pub" 2>/dev/null

  _certificate apiserver /CN=kube-apiserver "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,\
DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,IP:127.0.0.1,IP:$WEIR_POD_GATEWAY,\
IP:$WEIR_SERVICE_PREFIX.1"
  _certificate kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client
  _certificate admin /O=system:masters/CN=weir-admin
  _certificate node /O=system:nodes/CN=system:node:localhost DNS:localhost,IP:127.0.0.1
  _certificate controller-manager /CN=system:kube-controller-manager DNS:localhost,IP:127.0.0.1
  _certificate scheduler /CN=system:kube-scheduler DNS:localhost,IP:127.0.0.1

  _kubeconfig admin "$OUR_KUBECONFIG"
  _kubeconfig node "$CONFIG/kubelet.kubeconfig"
  _kubeconfig controller-manager "$CONFIG/controller-manager.kubeconfig"
  _kubeconfig scheduler "$CONFIG/scheduler.kubeconfig"
}

# _certificate NAME SUBJECT [ALTERNATIVE-NAMES]
_certificate() {
  local name=$1 subject=$2 names=${3:-} extensions
  extensions=$'keyUsage=digitalSignature,keyEncipherment\nextendedKeyUsage=serverAuth,clientAuth\n'
  [[ -z $names ]] || extensions+="subjectAltName=$names"$'\n'
  openssl ecparam -name prime256v1 -genkey -noout -out "$PKI/$name.key" 2>/dev/null
  openssl req -new -sha256 -key "$PKI/$name.key" -subj "$subject" |
    openssl x509 -req -sha256 -CA "$PKI/ca.crt" -CAkey "$PKI/ca.key" -CAcreateserial -days 365 \
      -extfile <(printf '%s' "$extensions") -out "$PKI/$name.crt" 2>/dev/null
}

# _kubeconfig CERTIFICATE FILE, with everything inside, so that the file alone can be handed on.
_kubeconfig() {
  local name=$1 file=$2
  (
    umask 077
    cat >"$file" <<YAML
apiVersion: v1
kind: Config
clusters:
  - name: weir
    cluster:
      server: https://127.0.0.1:$WEIR_APISERVER_PORT
      certificate-authority-data: $(base64 -w0 "$PKI/ca.crt")
users:
  - name: $name
    user:
      client-certificate-data: $(base64 -w0 "$PKI/$name.crt")
      client-key-data: $(base64 -w0 "$PKI/$name.key")
contexts:
  - name: weir
    context: {cluster: weir, user: $name}
current-context: weir
YAML
  )
}
