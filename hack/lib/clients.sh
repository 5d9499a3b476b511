# shellcheck shell=bash
# Clients that others have written, for the tests that use them: Node.js and npm, Python's venv, a browser.

need_clients() {
  command -v node >/dev/null || need_packages nodejs
  command -v npm >/dev/null || need_packages npm
  node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' ||
    die "Node.js $(node --version) is too old: the clients need 20 or later"
  python3 -c 'import venv, ensurepip' 2>/dev/null || need_packages python3-venv
  # A real engine of containers, for the source that reads them; its pods run a static busybox.
  { command -v podman && command -v runc; } >/dev/null || need_packages podman runc
  [[ -x /bin/busybox ]] || need_packages busybox-static
  [[ -x ${CHROMIUM:-/usr/bin/chromium} ]] || need_packages chromium
}

# What reads our metrics, rules and queries as Prometheus does.
need_promtool() {
  command -v promtool >/dev/null || need_packages prometheus
}
