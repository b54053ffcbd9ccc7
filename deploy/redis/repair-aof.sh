#!/bin/sh
# Ends Redis' append-only file before a transaction that a crash cut off, then runs the command that follows:
#
#   repair-aof.sh redis-server [options]
#
# Redis up to 8.2 removes only the last command of such a transaction, and executes the others with the next transaction
# after the next start (docs/limits.md). This script cuts the file where redis-check-aof says that it is complete, and only
# if the file ends too early. A file that is damaged in its middle stays as it is: Redis refuses it with an error.
#
# It needs Redis 7 or later and runs in its working directory. REDIS_AOF_DIR is the server's `appenddirname`, appendonlydir if it is not set.
set -eu

# The newest incremental file: appendonly.aof.<number>.incr.aof. Redis writes to no other.
newest() {
    for file in "$1"/*.incr.aof; do
        number=${file%.incr.aof}
        echo "${number##*.} $file"
    done | sort -n | tail -n 1 | cut -d ' ' -f 2-
}

# incomplete FILE REPORT: whether redis-check-aof reached the end of the file in the middle of a command or transaction.
incomplete() {
    case $2 in
        *"Expected prefix"* | *"format error"* | *"Unexpected MULTI"* | *"Unexpected EXEC"* | *"suitable range"*) return 1 ;;
        # The end of a line is missing: it is incomplete if no line ends behind it.
        *"0x"*": Expected "*", got: "*)
            offset=${2##*0x}
            offset=$((0x$(echo "${offset%%:*}" | tr -d ' ')))
            [ "$(tail -c "+$((offset + 1))" "$1" | wc -l)" -eq 0 ]
            ;;
    esac
}

dir=${REDIS_AOF_DIR:-appendonlydir}
file=$(newest "$dir")
if [ -s "$file" ]; then
    report=$(redis-check-aof "$file" 2>&1) || true
    sizes=$(echo "$report" | sed -n 's/^AOF analyzed: .*size=\([0-9]*\), ok_up_to=\([0-9]*\),.*/\1 \2/p')
    size=${sizes% *} complete=${sizes#* }
    if [ -n "$sizes" ] && [ "$complete" -lt "$size" ] && incomplete "$file" "$report"; then
        echo "repair-aof: $file ends in the middle of a command or transaction; its last $((size - complete)) bytes are removed" >&2
        truncate -s "$complete" "$file"
    fi
fi

exec "$@"
