#!/bin/sh
# Starts redis-server with the users of users.acl:
#
#   entrypoint.sh redis-server [options]
#
# Each user's password comes from REDIS_<USER>_PASSWORD or from the file that REDIS_<USER>_PASSWORD_FILE names, for the
# users ORDER, INVENTORY, ACCOUNT, MESSAGE, GATEWAY and OPERATOR. Redis gets their SHA-256 hashes in a file of its own
# (REDIS_ACL_FILE, /run/redis/users.acl if nothing is said; its directory must be writable); no password is written
# anywhere, shows among the arguments of a process, or stays in the server's environment.
set -eu
umask 077

template=${REDIS_ACL_TEMPLATE:-$(dirname "$0")/users.acl}
rendered=${REDIS_ACL_FILE:-/run/redis/users.acl}
carriage_return=$(printf '\r')

fail() {
    echo "bad configuration: $1: $2" >&2
    exit 64
}

hashes=
for user in order inventory account message gateway operator; do
    variable=REDIS_$(printf %s "$user" | tr '[:lower:]' '[:upper:]')_PASSWORD
    eval "password=\${$variable-} file=\${${variable}_FILE-}"
    if [ -n "$password" ] && [ -n "$file" ]; then
        fail "${variable}_FILE" "$variable is given as well; leave out one of the two"
    elif [ -n "$file" ]; then
        [ -r "$file" ] || fail "${variable}_FILE" "cannot read $file"
        password=$(cat "$file")
        # As the services do: a line break at the end does not count, of either kind.
        password=${password%"$carriage_return"}
        variable=${variable}_FILE
    fi
    [ -n "$password" ] || fail "$variable" "there is no password for the user $user"
    hash=$(printf %s "$password" | sha256sum)
    hashes="$hashes;s/<$user>/#${hash%% *}/"
    unset "REDIS_$(printf %s "$user" | tr '[:lower:]' '[:upper:]')_PASSWORD"
done
unset password

# Redis knows neither comments nor lines that go on.
sed -e '/^#/d' -e "${hashes#;}" "$template" | awk '
    /^[^ \t]/ { if (user != "") print user; user = $0; next }
    NF { sub(/^[ \t]+/, ""); user = user " " $0 }
    END { print user }
' > "$rendered.new"
if grep -q '<' "$rendered.new"; then
    fail REDIS_ACL_TEMPLATE "$template names a user whose password is not known here"
fi
mv "$rendered.new" "$rendered"

exec "$@" --aclfile "$rendered"
