# shellcheck shell=bash Functions for the scripts in this directory: headings with times, counted checks,
# installation of missing packages.

# Commands that run at the end of the script for any reason, in reverse order.
cleanups=()
on_exit() { cleanups=("$*" "${cleanups[@]}"); }
at_exit() {
    local cleanup
    for cleanup in "${cleanups[@]}"; do $cleanup || true; done
}
trap at_exit EXIT

# A directory for temporary files of the script.
scratch=$(mktemp --directory)
on_exit rm -rf "$scratch"

# Results of checks, one line each: "passed NAME" or "failed NAME". A script appends its results to those of
# the script that started it.
checks=$scratch/checks
: >"$checks"
report_to_caller() { [ -z "${CHECKS_OF_CALLER:-}" ] || cat "$checks" >>"$CHECKS_OF_CALLER"; }
on_exit report_to_caller

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

# check NAME COMMAND...: records success or failure by the command's exit code. The script continues after a
# failure, so that one run shows all failures. The command's output is shown only if it fails.
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

# equal WANTED ACTUAL...: compares two texts; for check.
equal() {
    [ "$1" = "${*:2}" ] || { say "wanted: $1" "   got: ${*:2}"; return 1; }
}

# step NAME COMMAND...: like check, but with a heading, the duration, and the output while the command runs.
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

# Prints the failed checks and the final line; its exit code is that of the script.
summary() {
    local good bad
    good=$(grep -c '^passed ' "$checks" || true)
    bad=$(grep -c '^failed ' "$checks" || true)
    if [ "$bad" -gt 0 ]; then
        heading "Failed checks"
        sed -n 's/^failed /  /p' "$checks"
    fi
    printf '\n%s passed, %s failed\n' "$good" "$bad"
    [ "$bad" -eq 0 ] && [ "$good" -gt 0 ]
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        # Without a terminal sudo must not ask for a password.
        if [ -t 0 ]; then sudo -- "$@"; else sudo --non-interactive -- "$@"; fi
    else
        die "needs root for: $* (sudo is missing). Run the script as root, or install the packages beforehand"
    fi
}

# with_packages COMMAND...: runs the command with an exclusive lock for renewing package lists and installing
# packages. Tests take the same lock (tools/stack/src/provision.rs).
with_packages() {
    local lock=${TMPDIR:-/tmp}/install-packages.lock
    [ -e "$lock" ] || : >>"$lock"
    exec 8<"$lock"
    flock 8
    "$@"
    exec 8<&-
}

# Continues with the existing package lists if they cannot be renewed.
renew_lists() { as_root apt-get update -qq || true; }

# provide COMMAND PACKAGE...: installs Debian packages if the command is missing.
provide() {
    is_installed "$1" || with_packages install_for "$@"
}

is_installed() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ]; }

install_for() {
    local command=$1
    shift
    # The previous holder of the lock may have installed the command.
    ! is_installed "$command" || return 0
    command -v apt-get >/dev/null || die "$command and apt-get are missing: install $* yourself"
    say "$command is missing: apt-get install $*"
    renew_lists
    { as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq \
        --no-install-recommends "$@" >/dev/null && is_installed "$command"; } \
        || die "$command is missing and apt-get could not install it: install $* yourself"
}

# python_tools DIRECTORY NAME: installs the packages of .ci/python/NAME.txt from PyPI into a virtual
# environment in the directory, if it does not exist or the list has changed. The list has the hashes of all
# files, dependencies included. Packages are not built from source, because that would require further
# packages.
python_tools() {
    local tools=$1 wanted=.ci/python/$2.txt
    ! cmp --silent "$wanted" "$tools/complete" || return 0
    provide python3 python3
    rm -rf "$tools"
    # In Debian the venv module is a separate package.
    if ! python3 -m venv "$tools" 2>/dev/null; then
        as_root apt-get update -qq
        as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
        rm -rf "$tools"
        python3 -m venv "$tools"
    fi
    "$tools/bin/pip" install --require-hashes --only-binary :all: --quiet --disable-pip-version-check \
        --requirement "$wanted"
    cp "$wanted" "$tools/complete"
}
