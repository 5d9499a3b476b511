# shellcheck shell=bash
# What the Rust parts need besides a toolchain.

export PATH=$PATH:$WEIR_CACHE/tools/bin:$HOME/.cargo/bin

need_rust() {
  command -v cargo >/dev/null || die "cargo is missing: install Rust with rustup (https://rustup.rs)"
  if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
    command -v rustup >/dev/null || die "rustfmt or clippy is missing; install them as you installed Rust"
    rustup component add rustfmt clippy
  fi
  command -v cc >/dev/null || need_packages gcc libc6-dev # ring compiles some C
}

# Starts building cargo-deny, once, beside what the caller does next: minutes that nobody should sit through.
start_cargo_deny() {
  command -v cargo-deny >/dev/null && return 0
  mkdir -p "$WEIR_CACHE/tools"
  (
    exec 9>"$WEIR_CACHE/tools/lock"
    flock 9
    [[ ! -x $WEIR_CACHE/tools/bin/cargo-deny ]] || exit 0
    CARGO_TARGET_DIR=$WEIR_CACHE/tools/target nice -n 10 \
      cargo install cargo-deny --locked --root "$WEIR_CACHE/tools"
    rm -rf "$WEIR_CACHE/tools/target"
  ) >"$WEIR_CACHE/tools/cargo-deny.log" 2>&1 </dev/null &
  CARGO_DENY_BUILD=$!
}

await_cargo_deny() {
  if [[ -n ${CARGO_DENY_BUILD:-} ]] && kill -0 "$CARGO_DENY_BUILD" 2>/dev/null; then
    note "cargo-deny is being built, once"
    while kill -0 "$CARGO_DENY_BUILD" 2>/dev/null; do sleep 0.5; done
  fi
  command -v cargo-deny >/dev/null || {
    tail -n 20 "$WEIR_CACHE/tools/cargo-deny.log" >&2
    die "cargo-deny could not be built"
  }
}

# Integration tests by name: `e2e` for those that need a cluster, `clients` for those that need clients that others have
# written, `local` for the rest.
test_targets() {
  local keep="startswith(\"$1\")"
  [[ $1 != local ]] || keep='test("^(e2e|clients)") | not'
  cargo metadata --no-deps --format-version 1 |
    jq -r ".packages[].targets[] | select(.kind | index(\"test\")) | .name | select($keep)"
}
