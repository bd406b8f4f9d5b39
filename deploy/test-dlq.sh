#!/usr/bin/env bash
# Shows a poison message, its dead letter and its replay, against a running `cargo run`, and checks what it sees.
#
#   deploy/test-dlq.sh [DATA]     DATA is that stack's data folder, .jalur unless said otherwise
#
# Needs curl alone. It makes a tenant of its own and deletes it. Exits 0 when all is as it should be, 1 at the first
# thing that is not.
set -euo pipefail

data=${1:-$(dirname "$0")/../.jalur}
[ -r "$data/env" ] || { echo "there is no $data/env: start the system with cargo run, or name its --data folder" >&2; exit 1; }
# shellcheck disable=SC1091
. "$data/env"
: "${JALUR_RABBITMQ_MANAGEMENT_URL:?the management pages of RabbitMQ are needed: they publish for us}"
vhost=${JALUR_AMQP_URL##*/}

api() { # METHOD PATH [BODY]: the answer's body; fails where the status is no success
  curl -sS --fail-with-body --max-time 30 -X "$1" "$JALUR_URL$2" -H "Authorization: Bearer $JALUR_ADMIN_TOKEN" \
    ${3:+--json "$3"}
}
publish() { # QUEUE MESSAGE_ID BODY: straight into a queue, as any AMQP client does
  local payload routed
  payload=$(printf %s "$3" | base64 | tr -d '\n')
  routed=$(curl -sS --fail-with-body --max-time 10 "$JALUR_RABBITMQ_MANAGEMENT_URL/api/exchanges/$vhost/amq.default/publish" --json \
    "{\"routing_key\":\"$1\",\"properties\":{\"message_id\":\"$2\",\"delivery_mode\":2},\"payload\":\"$payload\",\"payload_encoding\":\"base64\"}")
  expect "the broker routed it" "$routed" '{"routed":true}'
}
field() { grep -o "\"$1\":\"[^\"]*" | head -1 | cut -d'"' -f4; }
count() { { grep -o "$1" || true; } | wc -l; }
say() { printf '\n%s\n' "$*"; }
expect() { # WHAT GOT WANTED
  [ "$2" = "$3" ] || { printf 'NOT SO: %s\n  got    %s\n  wanted %s\n' "$1" "$2" "$3" >&2; exit 1; }
  printf '  ok: %s\n' "$1"
}
eventually() { # WHAT COMMAND...: until the command succeeds, 20 s at most
  local what=$1 until=$((SECONDS + 20))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$until" ] || { printf 'NOT SO within 20 s: %s\n' "$what" >&2; exit 1; }
    sleep 0.1
  done
  printf '  ok: %s\n' "$what"
}

tenant=$(api POST /api/tenants "{\"name\":\"test-dlq $$ $(date +%s)\"}" | field id)
[ -n "$tenant" ] || { echo "no tenant was made" >&2; exit 1; }
trap 'api DELETE "/api/tenants/$tenant" >/dev/null' EXIT
queue=tenant_${tenant}_queue
letters=/api/tenants/$tenant/dead-letters
stored() { [ "$(api GET "/api/tenants/$tenant/messages" | count '"position"')" -ge "$1" ]; }
buried() { [ "$(api GET "$letters" | count '"reason"')" = "$1" ]; }
settled() { api GET "/api/tenants/$tenant" | grep -q '"queue_depth":0'; }

say "1. A poison message between two good ones, in $queue"
id=01a1fc36-0000-7000-8000-000000000001
publish "$queue" "" '{"order": 1}'
publish "$queue" "$id" 'this is not JSON'
publish "$queue" "" '{"order": 2}'
eventually "its neighbours are stored" stored 2
eventually "it is a dead letter" buried 1

say "2. The dead letter says why; reading it changes nothing"
first=$(api GET "$letters")
printf '  %s\n' "$first"
expect "it has the message's id" "$(field id <<<"$first")" "$id"
expect "its reason is not_json" "$(field reason <<<"$first")" not_json
expect "its payload is the body" "$(field payload <<<"$first")" 'this is not JSON'
expect "reading it again answers the same" "$(api GET "$letters")" "$first"

say "3. Replayed, it fails again: nobody has repaired it"
expect "one is replayed" "$(api POST "$letters/replay" "{\"ids\":[\"$id\"]}")" '{"replayed":1,"remaining":0}'
eventually "it is a dead letter again" buried 1
again=$(api GET "$letters")
expect "under the same id" "$(field id <<<"$again")" "$id"
[ "$(field failed_at <<<"$again")" != "$(field failed_at <<<"$first")" ] || { echo "NOT SO: failed_at is the old one" >&2; exit 1; }
echo "  ok: it failed anew"
expect "purged, it is gone" "$(api DELETE "$letters")" '{"purged":1}'

say "4. A dead letter that nothing is wrong with any more is stored by its replay, and once"
good=01a1fc36-0000-7000-8000-000000000002
# The second time as after a crash half way: stored already, and still a dead letter.
for round in first second; do
  publish "tenant_${tenant}_dlq" "$good" '{"order": 3}'
  eventually "it lies there ($round time)" buried 1
  expect "one is replayed" "$(api POST "$letters/replay" '{"all":true}')" '{"replayed":1,"remaining":0}'
  eventually "it is stored" stored 3
done
eventually "nothing waits any more" settled
messages=$(api GET "/api/tenants/$tenant/messages")
expect "it is stored once" "$(count "\"id\":\"$good\"" <<<"$messages")" 1
expect "three messages are stored in all" "$(count '"position"' <<<"$messages")" 3
expect "and there is no dead letter" "$(api GET "$letters")" '{"dead_letters":[]}'

say "All of it is as it should be."
