#!/usr/bin/env bash
# Shows TLS on every way into Jalur and out of it, on real services of its own, and checks what it sees.
#
#   cargo build -p control-plane -p ingest-daemon && deploy/test-tls.sh [PROGRAMS]
#
# PROGRAMS is the folder of the two programs, target/debug unless said otherwise. Needs curl, openssl, and PostgreSQL and
# RabbitMQ installed. Everything is made below a temporary folder, on ports of 127.0.0.1, and removed at the end. Exits 0
# when all is as it should be, 1 at the first thing that is not.
set -euo pipefail
cd "$(dirname "$0")/.."

programs=${1:-target/debug}
for program in control-plane ingest-daemon; do
  [ -x "$programs/$program" ] || { echo "there is no $programs/$program: cargo build -p control-plane -p ingest-daemon" >&2; exit 1; }
done
programs=$(cd "$programs" && pwd)
at=$(mktemp -d "${TMPDIR:-/tmp}/jalur-tls.XXXXXX")
chmod 711 "$at"
pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  [ ! -f "$at/pg/postmaster.pid" ] || as_postgres "$pg/pg_ctl" -D "$at/pg" -m immediate stop >/dev/null || true
  rm -rf "$at"
}
trap cleanup EXIT

say() { printf '\n%s\n' "$*"; }
no() {
  printf 'NOT SO: %s\n' "$*" >&2
  tail -n 20 "$at"/*.log >&2
  exit 1
}
ok() { printf '  ok: %s\n' "$1"; }
holds() { # WHAT COMMAND...
  local what=$1
  shift
  "$@" >"$at/out" 2>&1 || no "$what: $(cat "$at/out")"
  ok "$what"
}
fails() { # WHAT WORDS COMMAND...: it fails, and says so
  local what=$1 words=$2
  shift 2
  ! "$@" >"$at/out" 2>&1 || no "$what: it went well"
  grep -q -- "$words" "$at/out" || no "$what: it says $(cat "$at/out")"
  ok "$what"
}
eventually() { # WHAT COMMAND...: until the command succeeds, 60 s at most
  local what=$1 until=$((SECONDS + 60))
  shift
  until "$@" >"$at/out" 2>&1; do
    [ "$SECONDS" -lt "$until" ] || no "within 60 s: $what: $(cat "$at/out")"
    sleep 0.2
  done
  ok "$what"
}
as_postgres() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }
# Below those that the system gives to outgoing connections.
first=$((20000 + RANDOM % 10000))
port() { echo $((first + $1)); }

say "1. A small authority, and certificates for everybody"
certify() { # NAME SUBJECT [AUTHORITY]
  local by=${3:-ca}
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$2" -addext "subjectAltName=DNS:$2" \
    -keyout "$at/$1.key" -out "$at/$1.csr" 2>/dev/null
  openssl x509 -req -in "$at/$1.csr" -CA "$at/$by.pem" -CAkey "$at/$by.key" -CAcreateserial -days 2 -copy_extensions copy \
    -out "$at/$1.new" 2>/dev/null
  mv "$at/$1.new" "$at/$1.pem"
}
for authority in ca stranger; do
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$authority" -days 2 \
    -keyout "$at/$authority.key" -out "$at/$authority.pem" 2>/dev/null
done
for name in postgres rabbitmq jalur; do certify "$name" localhost; done
certify daemon daemon
certify impostor daemon stranger
chmod 644 "$at"/*.pem "$at/rabbitmq.key"
ok "made with $(openssl version)"

say "2. PostgreSQL and RabbitMQ that speak TLS alone"
pg=$(dirname "$(command -v initdb || ls -d /usr/lib/postgresql/*/bin/initdb | tail -1)")
mkdir "$at/pg"
install -m 600 "$at/postgres.key" "$at/pg.key"
if [ "$(id -u)" = 0 ]; then chown postgres "$at/pg" "$at/pg.key"; fi
as_postgres "$pg/initdb" -D "$at/pg" -A trust -U jalur --no-sync >/dev/null
echo "hostssl all all 127.0.0.1/32 trust" >"$at/pg/pg_hba.conf"
as_postgres "$pg/pg_ctl" -D "$at/pg" -w -l "$at/pg/log" start -o \
  "-p $(port 0) -c listen_addresses=localhost -c unix_socket_directories='' -c fsync=off -c ssl=on -c ssl_cert_file=$at/postgres.pem -c ssl_key_file=$at/pg.key" >/dev/null
mkdir "$at/rabbitmq"
cat >"$at/rabbitmq/rabbitmq.conf" <<CONF
listeners.tcp = none
listeners.ssl.1 = 127.0.0.1:$(port 1)
ssl_options.cacertfile = $at/ca.pem
ssl_options.certfile = $at/rabbitmq.pem
ssl_options.keyfile = $at/rabbitmq.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
default_user = jalur
default_pass = secret
CONF
echo '[].' >"$at/rabbitmq/enabled_plugins"
rabbitmq=$(ls /usr/lib/rabbitmq/bin/rabbitmq-server 2>/dev/null || command -v rabbitmq-server)
env -i PATH="$PATH" HOME="$at/rabbitmq" ERL_EPMD_PORT="$(port 2)" ERL_EPMD_ADDRESS=127.0.0.1 epmd >"$at/epmd.log" 2>&1 &
pids+=($!)
env -i PATH="$PATH" HOME="$at/rabbitmq" ERL_EPMD_PORT="$(port 2)" ERL_EPMD_ADDRESS=127.0.0.1 RABBITMQ_CONF_ENV_FILE=/dev/null \
  RABBITMQ_NODENAME="jalur-tls-$$@localhost" RABBITMQ_DIST_PORT="$(port 3)" RABBITMQ_CONFIG_FILE="$at/rabbitmq/rabbitmq.conf" \
  RABBITMQ_ENABLED_PLUGINS_FILE="$at/rabbitmq/enabled_plugins" RABBITMQ_MNESIA_BASE="$at/rabbitmq/data" \
  RABBITMQ_GENERATED_CONFIG_DIR="$at/rabbitmq/generated" RABBITMQ_PID_FILE="$at/rabbitmq/pid" RABBITMQ_LOGS=- \
  RABBITMQ_LOG_BASE="$at/rabbitmq" RUNNING_UNDER_SYSTEMD=true "$rabbitmq" >"$at/rabbitmq.log" 2>&1 &
pids+=($!)
shakes() { # PORT [ARGUMENTS...]: a handshake with whoever listens there
  openssl s_client -connect "localhost:$1" -servername localhost -CAfile "$at/ca.pem" -verify_return_error "${@:2}" </dev/null
}
eventually "RabbitMQ shakes hands" shakes "$(port 1)" -cert "$at/daemon.pem" -key "$at/daemon.key"

say "3. What is unsafe does not start"
url="https://localhost:$(port 4)"
export JALUR_DATABASE__URL="postgres://jalur@localhost:$(port 0)/postgres?sslmode=verify-full&sslrootcert=$at/ca.pem"
export JALUR_RABBITMQ__URL="amqps://jalur:secret@localhost:$(port 1)/" JALUR_RABBITMQ__TLS__CA_FILE="$at/ca.pem"
export JALUR_RABBITMQ__TLS__CERT_FILE="$at/daemon.pem" JALUR_RABBITMQ__TLS__KEY_FILE="$at/daemon.key"
export JALUR_TLS__CERT_FILE="$at/jalur.pem" JALUR_TLS__KEY_FILE="$at/jalur.key"
export JALUR_CONTROL_PLANE__ENDPOINTS="$url" JALUR_CONTROL_PLANE__TLS__CA_FILE="$at/ca.pem"
JALUR_AUTH__SECRET=$(openssl rand -hex 32)
export JALUR_AUTH__SECRET
JALUR_CONTROL_PLANE__TOKEN=$("$programs/control-plane" token --role daemon)
export JALUR_CONTROL_PLANE__TOKEN
of_control_plane=(env JALUR_LISTEN="127.0.0.1:$(port 4)" JALUR_ADMIN="127.0.0.1:$(port 5)")
of_daemon=(env JALUR_ADMIN="127.0.0.1:$(port 6)")
command=(config check)
control_plane() { "${of_control_plane[@]}" "$@" "$programs/control-plane" "${command[@]}"; }
daemon() { "${of_daemon[@]}" "$@" "$programs/ingest-daemon" "${command[@]}"; }
start() { # Both, as children: their ids are the last two of pids
  "${of_control_plane[@]}" "$programs/control-plane" >"$at/control-plane.log" 2>&1 &
  pids+=($!)
  "${of_daemon[@]}" "$programs/ingest-daemon" >"$at/daemon.log" 2>&1 &
  pids+=($!)
}
holds "the control plane's configuration is good" control_plane
holds "the daemon's is" daemon
fails "listening in clear for other machines" "listen" control_plane JALUR_LISTEN=0.0.0.0:1 JALUR_TLS__CERT_FILE= JALUR_TLS__KEY_FILE=
fails "a broker elsewhere, in clear" "amqps://" control_plane JALUR_RABBITMQ__URL=amqp://jalur:secret@rabbitmq
fails "a database elsewhere, in clear" "sslmode" control_plane JALUR_DATABASE__URL=postgres://jalur@postgres/postgres
fails "a control plane elsewhere, in clear" "https://" daemon JALUR_CONTROL_PLANE__ENDPOINTS=http://jalur:8080
holds "all of that where it is said" control_plane JALUR_INSECURE=true JALUR_LISTEN=0.0.0.0:1 JALUR_TLS__CERT_FILE= \
  JALUR_TLS__KEY_FILE= JALUR_RABBITMQ__URL=amqp://jalur:secret@rabbitmq JALUR_DATABASE__URL=postgres://jalur@postgres/postgres
fails "a key that is another's" "tls.cert_file" control_plane JALUR_TLS__KEY_FILE="$at/daemon.key"
fails "a certificate that is not there" "tls.cert_file" control_plane JALUR_TLS__CERT_FILE="$at/nope.pem"

say "4. A message through all of it"
command=(migrate up)
fails "another database's certificate is not taken" "certificate" \
  control_plane JALUR_DATABASE__URL="postgres://jalur@localhost:$(port 0)/postgres?sslmode=verify-full&sslrootcert=$at/stranger.pem"
holds "migrations" control_plane
start
ready() { curl -fsS --max-time 5 "http://127.0.0.1:$1/readyz"; }
eventually "the control plane is ready" ready "$(port 5)"
eventually "the daemon is" ready "$(port 6)"
token=$("$programs/control-plane" token --role admin)
api() { curl -sS --fail-with-body --max-time 30 --cacert "$at/ca.pem" -X "$1" "$url$2" -H "Authorization: Bearer $token" ${3:+--json "$3"}; }
tenant=$(api POST /api/tenants '{"name":"tls"}' | grep -o '"id":"[^"]*' | head -1 | cut -d'"' -f4)
holds "published over https" api POST "/api/tenants/$tenant/messages" '{"messages":[{"payload":{"secret":1}}]}'
stored() { api GET "/api/tenants/$tenant/messages" | grep -q '"secret": 1'; }
eventually "stored, and read back" stored
http2() { [ "$(curl -sS --cacert "$at/ca.pem" -o /dev/null -w '%{http_version}' "$url/openapi.json")" = 2 ]; }
holds "HTTP/2, as it was negotiated" http2
for version in 1.2 1.3; do holds "TLS $version" curl -fsS --cacert "$at/ca.pem" --tlsv$version --tls-max $version -o /dev/null "$url/openapi.json"; done
fails "TLS 1.1 is not spoken" "" curl -fsS --cacert "$at/ca.pem" --tlsv1.0 --tls-max 1.1 "$url/openapi.json"
fails "whom nobody trusts is not spoken to" "certificate" curl -sS --cacert "$at/stranger.pem" "$url/openapi.json"
clear() { curl -sS --max-time 5 "http://localhost:$(port 4)/api/tenants"; }
clear >"$at/out" 2>&1 && grep -q "https://" "$at/out" || no "whoever speaks in clear is told so: $(cat "$at/out")"
ok "whoever speaks in clear is told so"

say "5. Certificates are renewed while everything runs"
serial() { shakes "$(port 4)" 2>/dev/null | openssl x509 -noout -serial; }
before=$(serial)
certify jalur localhost
renewed() { [ "$(serial)" != "$before" ]; }
eventually "the new one is shown" renewed
holds "and works" api GET "/api/tenants/$tenant"

say "6. A listener that asks for certificates"
kill -TERM "${pids[@]:2}"
for pid in "${pids[@]:2}"; do wait "$pid" || no "a stop in good order"; done
pids=("${pids[@]:0:2}")
export JALUR_TLS__CLIENT_CA_FILE="$at/ca.pem" JALUR_CONTROL_PLANE__TLS__CERT_FILE="$at/daemon.pem" JALUR_CONTROL_PLANE__TLS__KEY_FILE="$at/daemon.key"
start
eventually "the daemon is ready, with its own" ready "$(port 6)"
fails "whoever has none is refused" "" api GET "/api/tenants/$tenant"
fails "another authority's too" "" curl -sS --cacert "$at/ca.pem" --cert "$at/impostor.pem" --key "$at/impostor.key" "$url/openapi.json"
holds "and whoever has one is not" curl -fsS --cacert "$at/ca.pem" --cert "$at/daemon.pem" --key "$at/daemon.key" "$url/openapi.json"

say "All is as it should be."
