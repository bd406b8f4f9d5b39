# Installs the packages named by the arguments on Debian and Ubuntu, as root, and leaves every system service off:
# the stack starts private instances of its own.
set -eu
export DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1

# Debian's packages ask policy-rc.d whether they may start a service: not while this runs.
policy=/usr/sbin/policy-rc.d
saved=$policy.before-jalur
mine='# Written by jalur for the time of an installation.'
restore() {
    if [ -e "$policy" ] && grep -qxF "$mine" "$policy"; then rm -f "$policy"; fi
    if [ -e "$saved" ]; then mv -f "$saved" "$policy"; fi
}
trap restore EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
restore
if [ -e "$policy" ]; then mv "$policy" "$saved"; fi
printf '#!/bin/sh\n%s\nexit 101\n' "$mine" >"$policy"
chmod 755 "$policy"

# Nor is a cluster to be made that would only lie there.
clusters=/etc/postgresql-common/createcluster.conf
if [ ! -e "$clusters" ]; then
    mkdir -p "${clusters%/*}"
    printf '# Written by jalur: no cluster is made when a PostgreSQL package is installed.\ncreate_main_cluster = false\n' >"$clusters"
fi

# They are not to start with the next boot either; what was there before stays as it is.
services=
for package; do
    case $package in
    postgresql) services="$services postgresql.service" ;;
    rabbitmq-server)
        services="$services rabbitmq-server.service"
        dpkg-query -W erlang-base >/dev/null 2>&1 || services="$services epmd.socket epmd.service"
        ;;
    esac
done

apt-get -q update || echo 'apt-get update failed; trying with what is known' >&2
apt-get -q -o DPkg::Lock::Timeout=120 -o Dpkg::Options::=--force-confold install -y --no-install-recommends "$@"

for service in $services; do
    if command -v systemctl >/dev/null; then
        systemctl disable --quiet "$service" 2>/dev/null || true
    else
        rm -f /etc/systemd/system/*.wants/"$service"
    fi
    if [ -e "/etc/init.d/${service%.*}" ] && command -v update-rc.d >/dev/null; then
        update-rc.d "${service%.*}" disable >/dev/null 2>&1 || true
    fi
done
