#!/bin/sh
# Starts redis-server with the users of users.acl:
#
#   entrypoint.sh redis-server [options]
#
# The password of each user is in REDIS_<USER>_PASSWORD, or in the file that REDIS_<USER>_PASSWORD_FILE names.
# The users are ORDER, INVENTORY, ACCOUNT, MESSAGE, GATEWAY and OPERATOR. Redis gets the SHA-256 hashes in a
# separate ACL file (REDIS_ACL_FILE, default /run/redis/users.acl; its directory must be writable). No
# password is written to a file, appears in the arguments of a process, or stays in the server's environment.
#
# REDIS_TOPICS names the topics of this Redis, separated by blanks: order, inventory, account, message. The
# default is all of them. Users get no permission for keys of other topics.
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
        # A final line break (LF or CR LF) is not part of the password; the services do the same.
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

# The ACL file of Redis has neither comments nor continuation lines, so both are resolved here. The braces of
# a key contain its topic.
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
    fail REDIS_ACL_TEMPLATE "$template names a user without a password variable"
fi
mv "$rendered.new" "$rendered"

exec "$@" --aclfile "$rendered"
