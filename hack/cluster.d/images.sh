# shellcheck shell=bash
# Images, without a registry: archives made by hack/image, imported into whatever runs the pods.

load_own_images() {
  local images=$WEIR_CACHE/images
  mkdir -p "$images"
  "$HACK/image" busybox --output "$images/busybox.tar"
  "$HACK/image" pause --output "$images/pause.tar"
  _import "$images/pause.tar"
  _import "$images/busybox.tar"
}

_import() { node_ctr images import "$1" >"$LOGS/import.log" 2>&1 || { show_log import; return 1; }; }

load_image() {
  local file=$1 context
  [[ -f $file ]] || die "no such file: $file"
  if ! external_cluster; then
    daemon_pid containerd >/dev/null || die "the cluster is not up; start it with: hack/cluster up"
    _import "$file"
    note "loaded $(tar -xOf "$file" manifest.json | jq -r '.[].RepoTags[]')"
    return
  fi
  context=$(kubectl config current-context 2>/dev/null || true)
  case $context in
    kind-*) kind load image-archive "$file" --name "${context#kind-}" ;;
    k3d-*) k3d image import "$file" --cluster "${context#k3d-}" ;;
    minikube) minikube image load "$file" ;;
    *)
      if command -v k3s >/dev/null && ((EUID == 0)); then
        k3s ctr images import "$file"
      else
        die "KUBECONFIG points to the cluster '$context', and there is no general way to load an image into one. \
Import $file on its nodes (ctr -n k8s.io images import FILE), or push it to a registry that they pull from"
      fi
      ;;
  esac
}
