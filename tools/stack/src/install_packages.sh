# Installs the Debian packages named as arguments without starting or enabling the system service that comes
# with redis-server: a service on port 6379 that nobody asked for is none of our business. Run by provision.rs
# as root.
set -eu
policy=/usr/sbin/policy-rc.d
saved=$policy.before-redis

restore() {
    rm -f "$policy"
    if [ -e "$saved" ]; then mv "$saved" "$policy"; fi
}
trap restore EXIT
trap 'exit 1' HUP INT TERM

# Debian asks this file before it starts a service; for all but ours the answer stays what it was.
if [ -e "$policy" ]; then mv "$policy" "$saved"; fi
cat > "$policy" <<POLICY
#!/bin/sh
case "\$1" in redis*) exit 101 ;; esac
if [ -x "$saved" ]; then exec "$saved" "\$@"; fi
POLICY
chmod 755 "$policy"

export DEBIAN_FRONTEND=noninteractive
wait="-o DPkg::Lock::Timeout=300"
# Lists that cannot be renewed may still do.
apt-get $wait -qq update || true
apt-get $wait -qq install --no-install-recommends "$@"
# Nor shall it start with the machine's next boot, whichever way the machine boots.
case " $* " in *" redis-server "*)
    update-rc.d redis-server disable || true
    deb-systemd-helper disable redis-server.service || true
    ;;
esac
