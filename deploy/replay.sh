#!/usr/bin/env bash
# Replays a tenant's dead letters, however many there are, step by step, and says how far it is.
#
#   deploy/replay.sh [OPTIONS] TENANT
#
#   TENANT               the tenant's id
#   --reason REASON      only those that failed for it: not_json, not_storable, too_large, unreadable, refused, unknown
#   --per-second N       at most so many a second, 1 to 1,000,000; as fast as it goes without it
#   --data DATA          the data folder of a running `cargo run`, .jalur unless said otherwise
#   --help               this text
#
# Any other installation is reached with JALUR_URL (http://host:port) and JALUR_TOKEN (of an admin, or of the tenant's
# own tenant_admin) in the environment. Needs curl and jq.
#
# Each step is one call, which goes on for some 10 s. Those are replayed that are there at the beginning: what fails again
# meanwhile stays a dead letter. It can be stopped at any time, and begun again for the rest: none is lost, and none is
# stored twice. Exits 0 when all are replayed, 1 when not, 64 when it is called wrongly.
set -euo pipefail

# So many calls in a row may fail, or replay nothing, before it gives up: half a minute of a service that restarts.
readonly tries_max=10 pause_s=3

usage() { sed -n '2,/^set -euo/{/^set/d;s/^# \{0,1\}//;p}' "$0"; }
wrong() {
  printf '%s\n\n' "$1" >&2
  usage >&2
  exit 64
}

tenant='' reason='' per_second='' data=''
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) usage; exit 0 ;;
    --reason | --per-second | --data)
      [ $# -ge 2 ] || wrong "$1 needs a value"
      case $1 in
        --reason) reason=$2 ;;
        --per-second) per_second=$2 ;;
        --data) data=$2 ;;
      esac
      shift 2
      ;;
    -*) wrong "there is no option $1" ;;
    *)
      [ -z "$tenant" ] || wrong "one tenant at a time: $tenant, or $1"
      tenant=$1
      shift
      ;;
  esac
done
[ -n "$tenant" ] || wrong "whose dead letters? Name a tenant"
[[ $per_second =~ ^[0-9]{0,7}$ ]] || wrong "--per-second must be a number, got $per_second"
for tool in curl jq; do
  command -v "$tool" >/dev/null || { echo "$tool is needed, and is not installed" >&2; exit 1; }
done

if [ -n "$data" ] || [ -z "${JALUR_URL:-}" ]; then
  data=${data:-$(dirname "$0")/../.jalur}
  [ -r "$data/env" ] || { echo "there is no $data/env: start the system with cargo run, name its --data folder, or set JALUR_URL and JALUR_TOKEN" >&2; exit 1; }
  # shellcheck disable=SC1091
  . "$data/env"
  token=$JALUR_ADMIN_TOKEN
else
  token=${JALUR_TOKEN:-${JALUR_ADMIN_TOKEN:-}}
  [ -n "$token" ] || { echo "JALUR_TOKEN must be a token of an admin or of the tenant's tenant_admin" >&2; exit 1; }
fi

body=$(jq -cn --arg reason "$reason" --arg per_second "$per_second" \
  '{all: true} + (if $reason == "" then {} else {$reason} end)
    + (if $per_second == "" then {} else {per_second: ($per_second | tonumber)} end)')
call() { # the answer and, in a line of its own, its status; 000 where there was none
  curl -sS --max-time 40 -w '\n%{http_code}' "$JALUR_URL/api/tenants/$(jq -rn --arg id "$tenant" '$id | @uri')/dead-letters/replay" \
    -H "Authorization: Bearer $token" -H 'Content-Type: application/json' --data-binary "$body" || true
}
progress() {
  local spent=$((SECONDS > 0 ? SECONDS : 1)) percent=100
  [ "$total" -eq 0 ] || percent=$((replayed * 100 / total))
  local pace=$((replayed / spent))
  local line="replayed $replayed of $most$total ($percent %), $pace/s"
  if [ "$pace" -gt 0 ] && [ "$replayed" -lt "$total" ]; then
    line+=", $(((total - replayed) / pace)) s to go"
  fi
  # On a terminal the line stays where it is.
  if [ -t 1 ]; then printf '\r\033[K%s' "$line"; else printf '%s\n' "$line"; fi
}
end() { # STATUS WORDS...
  [ ! -t 1 ] || echo
  local status=$1
  shift
  if [ "$status" = 0 ]; then echo "$*"; else echo "$*" >&2; fi
  exit "$status"
}

# How many of another reason lie between is not known before all have been read.
most=$([ -z "$reason" ] || echo 'at most ')
replayed=0 total='' idle=0
trap 'end 1 "stopped; the same command goes on"' INT TERM
while :; do
  answer=$(call)
  status=${answer##*$'\n'} answer=${answer%$'\n'*}
  case $status in
    200)
      step=$(jq -r .replayed <<<"$answer") remaining=$(jq -r .remaining <<<"$answer")
      replayed=$((replayed + step))
      # What fails again comes to the end of the queue; those are not chased.
      : "${total:=$((replayed + remaining))}"
      progress
      if [ "$remaining" -eq 0 ] || [ "$replayed" -ge "$total" ]; then
        end 0 "all that were there are replayed: $replayed"
      fi
      [ "$step" -eq 0 ] || { idle=0; continue; }
      # Twice more, should others have had them in their hands.
      idle=$((idle + 3))
      why="no dead letter was reached; $remaining may be left, deeper than is looked for a reason: replay or delete those before them"
      ;;
    000 | 429 | 503 | 502 | 504) why=$(jq -r '.message // empty' <<<"$answer" 2>/dev/null || true) why=${why:-"$JALUR_URL does not answer"} ;;
    *) end 1 "status $status: $(jq -r '.message // .' <<<"$answer" 2>/dev/null || echo "$answer")" ;;
  esac
  idle=$((idle + 1))
  [ "$idle" -lt "$tries_max" ] || end 1 "given up after $tries_max calls, with $replayed replayed: $why"
  sleep "$pause_s"
done
