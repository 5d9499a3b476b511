# shellcheck shell=bash
# The parts that look at the sources only, quickest first.

need_lint() {
  need_rust
  command -v shellcheck >/dev/null || need_packages shellcheck
  command -v jq >/dev/null || need_packages jq
  command -v git >/dev/null || need_packages git
  command -v python3 >/dev/null || need_packages python3
}

lint_parts() {
  part "format" cargo fmt --all --check
  part "shellcheck" lint_scripts
  part "clippy" cargo clippy --locked --all-targets --all-features -- -D warnings
  part "cargo deny" lint_dependencies
}

# Every file that git knows, or would, and that a shell or Python would run.
lint_scripts() {
  local file first scripts=()
  while IFS= read -r -d '' file; do
    [[ -f $file ]] || continue
    IFS= read -r first <"$file" 2>/dev/null || true
    case $file:$first in
      *.sh:* | *:'#!'*[/\ ]bash | *:'#!'*[/\ ]sh) scripts+=("$file") ;;
      *:'#!'*python3) python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read(), sys.argv[1])' "$file" ;;
    esac
  done < <(git ls-files -z --cached --others --exclude-standard hack .ci charts examples tests docs 2>/dev/null)
  note "${#scripts[@]} scripts"
  shellcheck "${scripts[@]}"
}

lint_dependencies() {
  await_cargo_deny
  cargo deny --locked --log-level error check bans licenses sources
  # Only where the database of advisories can be had.
  if GIT_TERMINAL_PROMPT=0 timeout 30 cargo deny --locked --log-level off fetch db >/dev/null 2>&1; then
    cargo deny --locked --log-level error check advisories
  else
    note "advisories: not checked, their database cannot be reached from here"
  fi
}
