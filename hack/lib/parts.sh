# shellcheck shell=bash
# Runs parts one after the other, stops at the first that fails, and ends with a table of how long each took.

PARTS=()

# part TITLE COMMAND…
part() {
  local title=$1 from=$EPOCHREALTIME status=0
  shift
  say
  heading "$title"
  # In a subshell of its own and outside any condition, so that every failing line in it counts.
  set +e
  (
    set -e
    "$@"
  )
  status=$?
  set -e
  if ((status == 0)); then
    PARTS+=("ok      $(printf '%8s' "$(seconds_since "$from")")  $title")
  else
    PARTS+=("FAILED  $(printf '%8s' "$(seconds_since "$from")")  $title")
    exit "$status"
  fi
}

show_parts() {
  say
  heading "parts"
  printf '  %s\n' "${PARTS[@]}" >&2
  printf '          %8s  in all\n' "$(seconds_since "$1")" >&2
}
