# shellcheck shell=bash
# What every script here shares: messages, step timing, and the Debian packages a step needs.

: "${WEIR_CACHE:=$HOME/.cache/weir}"
export WEIR_CACHE

if [[ -t 2 && -z ${NO_COLOR:-} ]]; then
  _bold=$'\e[1m' _dim=$'\e[2m' _red=$'\e[31m' _reset=$'\e[0m'
else
  _bold='' _dim='' _red='' _reset=''
fi

say() { printf '%s\n' "$*" >&2; }
heading() { printf '%s==> %s%s\n' "$_bold" "$*" "$_reset" >&2; }
note() { printf '%s    %s%s\n' "$_dim" "$*" "$_reset" >&2; }
die() {
  printf '%serror:%s %s\n' "$_red" "$_reset" "$*" >&2
  exit 1
}

# step TITLE COMMAND… runs the command, between a line that says what and a line that says how long.
step() {
  local title=$1 from
  shift
  from=$EPOCHREALTIME
  heading "$title"
  "$@"
  note "$title: $(seconds_since "$from")"
}

# seconds_since EPOCHREALTIME prints "12.3s".
seconds_since() {
  local now=$EPOCHREALTIME tenths
  tenths=$(((${now/[.,]/} - ${1/[.,]/}) / 100000))
  printf '%d.%ds' $((tenths / 10)) $((tenths % 10))
}

# wait_for SECONDS WHAT COMMAND… polls until the command succeeds, and says what it waited for when it never does.
wait_for() {
  local limit=$1 what=$2 until
  shift 2
  until=$((SECONDS + limit))
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS >= until)); then
      say "gave up after ${limit}s waiting for $what"
      return 1
    fi
    sleep 0.2
  done
}

# need_packages PACKAGE… installs the Debian packages that are missing, without starting the services they bring.
need_packages() {
  local package missing=() policy=/usr/sbin/policy-rc.d ours='' status=0
  for package in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  ((EUID == 0)) || die "these packages are missing, and installing them takes root: ${missing[*]}"
  command -v apt-get >/dev/null || die "these packages are missing, and there is no apt-get: ${missing[*]}"
  note "installing ${missing[*]}"
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    ours=yes
  fi
  _apt_install "${missing[@]}" || status=$?
  [[ -z $ours ]] || rm -f "$policy"
  ((status == 0)) || die "apt-get could not install ${missing[*]}"
}

_apt_install() {
  local log
  log=$(mktemp)
  if ! apt-cache show "$@" >/dev/null 2>&1; then
    apt-get update -qq >"$log" 2>&1 || { cat "$log" >&2; rm -f "$log"; return 1; }
  fi
  if ! DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >"$log" 2>&1; then
    # The lists may be older than the mirror.
    apt-get update -qq >>"$log" 2>&1
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >>"$log" 2>&1 ||
      { tail -n 30 "$log" >&2; rm -f "$log"; return 1; }
  fi
  rm -f "$log"
}
