# shellcheck shell=bash
# Builds the Kubernetes binaries from Debian's source package, once for each version, into the cache.

KUBE_VERSION=1.20.2
KUBE_BUILD=4 # counts up when what is built changes
KUBE_BIN=$WEIR_CACHE/kubernetes/$KUBE_VERSION-$KUBE_BUILD/bin

KUBE_RUN_PACKAGES=(etcd-server etcd-client containerd runc containernetworking-plugins busybox-static openssl
  iptables iproute2 jq python3 curl ca-certificates util-linux)
KUBE_BUILD_PACKAGES=(golang-go dpkg-dev make patch rsync jq)

build_kubernetes() {
  local targets=(kube-apiserver kube-controller-manager kube-scheduler kubelet weir-reopen-log) name work
  command -v kubectl >/dev/null || targets+=(kubectl)
  for name in "${targets[@]}"; do
    [[ -x $KUBE_BIN/$name ]] || { work=yes; break; }
  done
  [[ -n ${work:-} ]] || return 0

  step "Packages to build Kubernetes with" need_packages "${KUBE_BUILD_PACKAGES[@]}"
  work=$WEIR_CACHE/kubernetes/build
  mkdir -p "$work"
  [[ -f $work/src/.unpacked ]] || step "Source of Kubernetes $KUBE_VERSION from Debian" _fetch_source "$work"
  step "Building ${targets[*]} (about four minutes, once)" _compile "$work" "${targets[@]}"
  rm -rf "$work"
}

# The source comes through apt, so that its signature is checked, from the mirror this machine already uses. A
# private list leaves the system's own lists as they are.
_fetch_source() {
  local work=$1 mirror apt
  mirror=$(_debian_mirror)
  if [[ -z $mirror ]]; then
    apt-get update -qq
    mirror=$(_debian_mirror)
  fi
  [[ -n $mirror ]] || die "no Debian 12 (bookworm) mirror is configured here, and the test cluster is built from \
its source package; point KUBECONFIG at a cluster of your own (kind, k3d, …) instead"
  mkdir -p "$work/lists/partial" "$work/debian"
  printf 'deb-src %s bookworm main\n' "$mirror" >"$work/sources.list"
  apt=(-qq -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$work/lists" -o APT::Sandbox::User=root)
  apt-get update "${apt[@]}"
  (cd "$work/debian" && apt-get source --download-only "${apt[@]}" kubernetes) >"$work/source.log" 2>&1 ||
    { tail -n 20 "$work/source.log" >&2; return 1; }
  rm -rf "$work/src"
  mkdir -p "$work/src"
  tar -xzf "$work"/debian/kubernetes_*"$KUBE_VERSION"*.orig.tar.gz -C "$work/src" --strip-components=1
  patch --quiet --strip 1 --directory "$work/src" <"$HACK/cluster.d/go-map-iteration.patch"
  touch "$work/src/.unpacked"
}

_debian_mirror() {
  # The field is apt's, not the shell's.
  # shellcheck disable=SC2016
  apt-get indextargets --format '$(REPO_URI)' \
    'Created-By: Packages' 'Codename: bookworm' 'Component: main' 'Origin: Debian' | sed -n 1p
}

# A GOPATH build, as in Debian's own rules. Our own helper is built as one more command of the tree, since the CRI
# client it needs lives there.
_compile() (
  work=$1
  shift
  gopath=$work/src/.go
  mkdir -p "$gopath/src/k8s.io" "$work/src/cmd/weir-reopen-log"
  ln -sfn "$work/src" "$gopath/src/k8s.io/kubernetes"
  cp "$HACK/cluster.d/reopen-log.go" "$work/src/cmd/weir-reopen-log/main.go"
  cd "$gopath/src/k8s.io/kubernetes" || exit
  export GOPATH=$gopath GOCACHE=$work/gocache GO111MODULE=off GOFLAGS='' GOPROXY=off CGO_ENABLED=0
  export KUBE_GIT_COMMIT=debian KUBE_GIT_TREE_STATE=archive KUBE_GIT_VERSION=v$KUBE_VERSION
  export KUBE_GIT_MAJOR=${KUBE_VERSION%%.*} KUBE_GIT_MINOR=20 FORCE_HOST_GO=y
  if ! nice -n 5 make WHAT="${*/#/cmd/}" >"$work/make.log" 2>&1; then
    tail -n 40 "$work/make.log" >&2
    exit 1
  fi
  mkdir -p "$KUBE_BIN"
  for name in "$@"; do
    install -m 755 "_output/local/go/bin/$name" "$KUBE_BIN/.$name"
    strip "$KUBE_BIN/.$name" 2>/dev/null || true
    mv "$KUBE_BIN/.$name" "$KUBE_BIN/$name"
  done
)
