# Installs the Debian packages named as arguments. The system service of redis-server is neither started nor
# enabled, because the tests do not need a service on port 6379. provision.rs runs this script as root.
set -eu
policy=/usr/sbin/policy-rc.d
saved=$policy.before-redis

restore() {
    rm -f "$policy"
    if [ -e "$saved" ]; then mv "$saved" "$policy"; fi
}
trap restore EXIT
trap 'exit 1' HUP INT TERM

# Debian runs this file before it starts a service. For all services except redis the answer does not change.
if [ -e "$policy" ]; then mv "$policy" "$saved"; fi
cat > "$policy" <<POLICY
#!/bin/sh
case "\$1" in redis*) exit 101 ;; esac
if [ -x "$saved" ]; then exec "$saved" "\$@"; fi
POLICY
chmod 755 "$policy"

export DEBIAN_FRONTEND=noninteractive
wait="-o DPkg::Lock::Timeout=300"
# Continues with the existing package lists if they cannot be renewed.
apt-get $wait -qq update || true
apt-get $wait -qq install --no-install-recommends "$@"
# Prevents a start at the next boot, with sysvinit and with systemd.
case " $* " in *" redis-server "*)
    update-rc.d redis-server disable || true
    deb-systemd-helper disable redis-server.service || true
    ;;
esac
