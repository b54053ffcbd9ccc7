# shellcheck shell=bash
# Shared by the scripts beside it: headings with times, checks that are counted, packages that are installed when missing.

# What is to be done at the end, however it comes about: the last first.
cleanups=()
on_exit() { cleanups=("$*" "${cleanups[@]}"); }
at_exit() {
    local cleanup
    for cleanup in "${cleanups[@]}"; do $cleanup || true; done
}
trap at_exit EXIT

# A directory for what is needed only while the script runs.
scratch=$(mktemp --directory)
on_exit rm -rf "$scratch"

# Results of checks, one line each: "passed NAME" or "failed NAME". A script that another one starts hands its own on.
checks=$scratch/checks
: >"$checks"
hand_on() { [ -z "${CHECKS_OF_CALLER:-}" ] || cat "$checks" >>"$CHECKS_OF_CALLER"; }
on_exit hand_on

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
else
    bold='' green='' red='' plain=''
fi

say() { printf '%s\n' "$*"; }

heading() { printf '\n%s=== %s%s\n' "$bold" "$*" "$plain"; }

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

passed() {
    printf 'passed %s\n' "$1" >>"$checks"
    printf '%spassed%s  %s\n' "$green" "$plain" "$1"
}

failed() {
    printf 'failed %s\n' "$1" >>"$checks"
    printf '%sfailed%s  %s\n' "$red" "$plain" "$1"
}

# check NAME COMMAND...: counts by the command's exit code; a failure is not the end, so that one run shows all of them.
# The command's output is shown only when it fails.
check() {
    local name=$1 output
    shift
    if output=$("$@" 2>&1); then
        passed "$name"
    else
        failed "$name"
        [ -z "$output" ] || printf '%s\n' "$output" | sed 's/^/        /'
    fi
}

# equal WANTED ACTUAL...: for check.
equal() {
    [ "$1" = "${*:2}" ] || { say "wanted: $1" "   got: ${*:2}"; return 1; }
}

# step NAME COMMAND...: the same with a heading, the time it took, and its output as it comes.
step() {
    local name=$1 since=$SECONDS
    shift
    heading "$name"
    if CHECKS_OF_CALLER=$checks "$@"; then
        passed "$name ($((SECONDS - since)) s)"
    else
        failed "$name ($((SECONDS - since)) s)"
    fi
}

# The closing line; its exit code is the script's.
summary() {
    local good bad
    good=$(grep -c '^passed ' "$checks" || true)
    bad=$(grep -c '^failed ' "$checks" || true)
    if [ "$bad" -gt 0 ]; then
        heading "What failed"
        sed -n 's/^failed /  /p' "$checks"
    fi
    printf '\n%s passed, %s failed\n' "$good" "$bad"
    [ "$bad" -eq 0 ] && [ "$good" -gt 0 ]
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        # Without a terminal there is nobody to ask for a password.
        if [ -t 0 ]; then sudo -- "$@"; else sudo --non-interactive -- "$@"; fi
    else
        die "needs root for: $* (no sudo here). Run it as root, or install what it asks for beforehand"
    fi
}

# with_packages COMMAND...: while nobody else renews lists or installs, neither a script nor a test, for which
# tools/stack/src/provision.rs waits at the same lock.
with_packages() {
    local lock=${TMPDIR:-/tmp}/install-packages.lock
    [ -e "$lock" ] || : >>"$lock"
    exec 8<"$lock"
    flock 8
    "$@"
    exec 8<&-
}

# Lists that cannot be renewed may still do.
renew_lists() { as_root apt-get update -qq || true; }

# provide COMMAND PACKAGE...: installs Debian packages where the command is missing.
provide() {
    is_there "$1" || with_packages install_for "$@"
}

is_there() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ]; }

install_for() {
    local command=$1
    shift
    # The previous holder of the lock may have installed it.
    ! is_there "$command" || return 0
    command -v apt-get >/dev/null || die "$command is missing and so is apt-get: install $* yourself"
    say "$command is missing: apt-get install $*"
    renew_lists
    { as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq \
        --no-install-recommends "$@" >/dev/null && is_there "$command"; } \
        || die "$command is missing and apt-get could not install it: install $* yourself"
}

# python_tools DIRECTORY NAME: a directory of its own for the programs from PyPI that .ci/python/NAME.txt lists with the hashes of
# their files and of everything that they need; filled if it is not there yet, or if the list has changed. Nothing is built
# from source, which would take more packages.
python_tools() {
    local tools=$1 wanted=.ci/python/$2.txt
    ! cmp --silent "$wanted" "$tools/complete" || return 0
    provide python3 python3
    rm -rf "$tools"
    # Debian's venv module comes in a package of its own.
    if ! python3 -m venv "$tools" 2>/dev/null; then
        as_root apt-get update -qq
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
        rm -rf "$tools"
        python3 -m venv "$tools"
    fi
    "$tools/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --requirement "$wanted"
    cp "$wanted" "$tools/complete"
}
