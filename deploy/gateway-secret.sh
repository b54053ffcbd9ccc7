#!/bin/sh
# Creates the secret that the gateways and order_service share, if it does not exist, then starts a program:
#
#   gateway-secret.sh order_service [options]
#   gateway-secret.sh --wait gateway_api [options]
#
# ORDER_SERVICE_SECRET_FILE names the file, on a volume that the gateways also mount. If several instances
# start at the same time, one of them creates the secret and all use it. Only the user of the services can
# read it. A gateway has the volume read-only: with --wait it waits until order_service, which starts at the
# same time, has created the secret.
set -eu
umask 077

file=${ORDER_SERVICE_SECRET_FILE:-}
if [ "$1" = --wait ]; then
    shift
    tenths=300
    while [ -n "$file" ] && [ ! -e "$file" ]; do
        [ "$tenths" -gt 0 ] || {
            echo "bad configuration: ORDER_SERVICE_SECRET_FILE:" \
                "order_service did not create $file within 30 s" >&2
            exit 64
        }
        tenths=$((tenths - 1))
        sleep 0.1
    done
elif [ -n "$file" ] && [ ! -e "$file" ]; then
    directory=$(dirname "$file")
    [ -d "$directory" ] && [ -w "$directory" ] || {
        echo "bad configuration: ORDER_SERVICE_SECRET_FILE: $file does not exist," \
            "and cannot be created in $directory" >&2
        exit 64
    }
    made=$(mktemp "$file.XXXXXX")
    head -c 32 /dev/urandom | base64 -w 0 >"$made"
    sync "$made"
    # Only the first of several containers succeeds, and the file is complete by then.
    ln "$made" "$file" 2>/dev/null || [ -e "$file" ]
    rm -f "$made"
fi

exec "$@"
