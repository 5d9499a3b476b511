# shellcheck shell=bash
# Daemons, by recorded identity: a process id alone may have been given to somebody else in the meantime, so it is
# kept together with the time the process started, and nothing is signalled unless both agree.

# start_daemon NAME COMMAND… starts it in a session of its own, with its output in a log.
start_daemon() {
  local name=$1
  shift
  printf '%s\0' "$@" >"$RUN/$name.command"
  respawn_daemon "$name"
}

# respawn_daemon NAME starts what start_daemon recorded, with the same arguments.
respawn_daemon() {
  local name=$1 command pid
  mapfile -d '' -t command <"$RUN/$name.command"
  setsid "${command[@]}" </dev/null >>"$LOGS/$name.log" 2>&1 9>&- &
  pid=$!
  disown "$pid"
  printf '%s %s\n' "$pid" "$(_started_at "$pid")" >"$RUN/$name.pid"
}

daemon_pid() {
  local pid started
  [[ -f $RUN/$1.pid ]] || return 1
  read -r pid started <"$RUN/$1.pid" || return 1
  [[ -n $started && $(_started_at "$pid") == "$started" ]] || return 1
  printf '%s\n' "$pid"
}

# stop_daemon NAME [GRACE] asks, waits GRACE seconds, then insists.
stop_daemon() {
  local name=$1 grace=${2:-10} pid until
  if pid=$(daemon_pid "$name"); then
    kill -TERM "$pid" 2>/dev/null || true
    until=$((${EPOCHREALTIME/[.,]/} + grace * 1000000))
    while daemon_pid "$name" >/dev/null; do
      if ((${EPOCHREALTIME/[.,]/} >= until)); then
        kill -KILL "$pid" 2>/dev/null || true
        wait_for 10 "$name (process $pid) to be gone" _gone "$name" || return 1
        break
      fi
      sleep 0.05
    done
  fi
  rm -f "$RUN/$name.pid"
}

_gone() { ! daemon_pid "$1"; }

# The start time of a live process, in ticks since boot: field 22 of its stat line, counted after the name, which may
# hold blanks and brackets. A zombie counts as gone.
_started_at() {
  local stat fields
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
  read -r -a fields <<<"${stat##*) }"
  [[ ${fields[0]} == Z ]] || printf '%s' "${fields[19]}"
}

# Prints the end of a daemon's log, for a person who must find out what went wrong.
show_log() {
  say "the end of $1's log:"
  tail -n 15 "$LOGS/$1.log" >&2 || true
}
