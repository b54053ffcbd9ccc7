#!/bin/sh
# Starts redis-server with the users of users.acl:
#
#   entrypoint.sh redis-server [options]
#
# Each user's password comes from REDIS_<USER>_PASSWORD or from the file that REDIS_<USER>_PASSWORD_FILE names, for the
# users ORDER, INVENTORY, ACCOUNT, MESSAGE, GATEWAY and OPERATOR. Redis gets their SHA-256 hashes in a file of its own
# (REDIS_ACL_FILE, /run/redis/users.acl if nothing is said; its directory must be writable); no password is written
# anywhere, shows among the arguments of a process, or stays in the server's environment.
#
# REDIS_TOPICS names the topics that this Redis keeps, separated by blanks: order, inventory, account, message; all of them
# if nothing is said. Users get no permission for keys of any other topic.
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

topics=${REDIS_TOPICS:-order inventory account message}
for topic in $topics; do
    case $topic in
        order | inventory | account | message) ;;
        *) fail REDIS_TOPICS "there is no topic $topic; there are order, inventory, account and message" ;;
    esac
done

# Redis knows neither comments nor lines that go on. A key belongs to the topic in its braces.
sed -e '/^#/d' -e "${hashes#;}" "$template" | awk -v topics="$topics" '
    BEGIN { count = split(topics, names, " "); for (i = 1; i <= count; i++) kept["{" names[i] "}"] }
    function finish() {
        gsub(/\(/, " ( ", user)
        gsub(/\)/, " ) ", user)
        count = split(user, words, " ")
        line = selector = ""
        inside = keys = 0
        for (i = 1; i <= count; i++) {
            word = words[i]
            if (word == "(") { inside = 1; keys = 0; selector = ""; continue }
            if (word == ")") { inside = 0; if (keys) line = line " (" substr(selector, 2) ")"; continue }
            if (word ~ /~/) {
                if (match(word, /\{[^}]*\}/) && !(substr(word, RSTART, RLENGTH) in kept)) continue
                keys++
            }
            if (inside) selector = selector " " word; else line = line " " word
        }
        print substr(line, 2)
    }
    /^[^ \t]/ { if (user != "") finish(); user = $0; next }
    NF { user = user " " $0 }
    END { finish() }
' > "$rendered.new"
if grep -q '<' "$rendered.new"; then
    fail REDIS_ACL_TEMPLATE "$template names a user whose password is not known here"
fi
mv "$rendered.new" "$rendered"

exec "$@" --aclfile "$rendered"
