#!/bin/sh
# Removes an incomplete transaction, which a crash left at the end of Redis' append-only file, then runs a
# command:
#
#   repair-aof.sh redis-server [options]
#
# Redis up to 8.2 removes only the last command of such a transaction, and executes the others with the next
# transaction after the next start (docs/limits.md). This script truncates the file at the position up to
# which redis-check-aof reports it as complete, and only if the file ends too early. It does not change a file
# that is damaged in its middle; Redis reports such a file as an error.
#
# The script needs Redis 7 or later, and the server's working directory as its own. REDIS_AOF_DIR is the
# server's `appenddirname`, by default appendonlydir.
set -eu

# The newest incremental file, appendonly.aof.<number>.incr.aof; Redis writes to this file only.
newest() {
    for file in "$1"/*.incr.aof; do
        number=${file%.incr.aof}
        echo "${number##*.} $file"
    done | sort -n | tail -n 1 | cut -d ' ' -f 2-
}

# incomplete FILE REPORT: succeeds if redis-check-aof reached the end of the file inside a command or
# transaction.
incomplete() {
    case $2 in
        *"Expected prefix"* | *"format error"* | *"Unexpected MULTI"* | *"Unexpected EXEC"* | \
            *"suitable range"*) return 1 ;;
        # A line break is missing. The file is incomplete if it has no line break after that position.
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
        echo "repair-aof: $file ends in the middle of a command or transaction;" \
            "its last $((size - complete)) bytes are removed" >&2
        truncate -s "$complete" "$file"
    fi
fi

exec "$@"
