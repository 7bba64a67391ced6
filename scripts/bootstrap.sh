#!/bin/sh
# Make or update .venv. Obtains the pinned uv (verified by hash) and a Python 3.10, then hands over to scripts/setup.
# Called by `make setup` and `invoke setup`; VARIANT=cpu|cu118 chooses the variant, --flash-attn adds flash-attn.
# --tools TASK ...: not .venv but invoke alone, for the tasks of the image, which need no environment on this machine.
# BUNDLE=DIR: take what the tools need from a bundle (`invoke bundle`), not from the network.
set -eu

fail() {
    printf 'setup: %s\n' "$1" >&2
    exit 1
}

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root"
system=$(uname -s)-$(uname -m)
[ "$system" = Linux-x86_64 ] || fail "this environment exists for Linux-x86_64 only and this is $system: use a Linux x86_64 machine."
cache=${XDG_CACHE_HOME:-${HOME:?set HOME or XDG_CACHE_HOME}/.cache}/racdino
uv_version=$(sed -n 's/^uv==\([^ ]*\).*/\1/p' environment/bootstrap.lock)
uv_home=$cache/uv/$uv_version

# An existing uv counts when it is the pinned version; one that we install is verified by the lock's hashes.
find_uv() {
    for candidate in "${RACDINO_UV:-}" "$(command -v uv || :)" "$uv_home/bin/uv"; do
        [ -n "$candidate" ] || continue
        if [ "$("$candidate" --version 2>/dev/null | cut -d' ' -f2)" = "$uv_version" ]; then
            printf '%s\n' "$candidate"
            return
        fi
    done
}

header() {
    sed -n "s/^# $1: //p" environment/bootstrap.lock
}

# Where there is no Python at all: the release archive, whose program must be the one in the wheel.
download_uv() {
    url=$(header release)
    way_on="apt install python3-venv, dnf install python3-pip, or without root put the uv $uv_version release from github.com/astral-sh/uv on PATH; then run this again."
    if command -v curl >/dev/null 2>&1; then
        set -- curl --fail --silent --show-error --location --retry 3 --output
    elif command -v wget >/dev/null 2>&1; then
        set -- wget --quiet --tries=3 --output-document
    else
        fail "no uv $uv_version on PATH, no Python 3 with pip or venv to install it, and neither curl nor wget to download it: $way_on"
    fi
    printf 'uv %s: downloading, verified by environment/bootstrap.lock\n' "$uv_version"
    "$@" "$work/uv.tar.gz" "$url" || fail "uv $uv_version could not be downloaded from $url (the reason is above): check the network or proxy (HTTPS_PROXY, CURL_CA_BUNDLE), or $way_on"
    mkdir -p "$work/uv/bin"
    tar -xzf "$work/uv.tar.gz" -C "$work/uv/bin" --strip-components=1 || fail "$url is not the archive it should be: run this again, or $way_on"
    printf '%s  %s\n' "$(header program-sha256)" "$work/uv/bin/uv" | sha256sum -c --status ||
        fail "the uv in $url does not have the sha256 in environment/bootstrap.lock and was deleted: $way_on"
}

use_new_uv() {
    rm -rf "$uv_home"
    mv "$work/uv" "$uv_home"
    rm -rf "$work"
    trap - EXIT INT TERM
}

# --target leaves the system's Python untouched and works where Debian marks it as externally managed.
install_uv() {
    mkdir -p "$cache/uv"
    work=$(mktemp -d "$cache/uv/.new.XXXXXX")
    trap 'rm -rf "$work"' EXIT INT TERM
    for python in python3 python3.13 python3.12 python3.11 python3.10 python; do
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null || continue
        with_pip=$python
        if ! "$python" -m pip --version >/dev/null 2>&1; then
            "$python" -m venv "$work/venv" >/dev/null 2>&1 || continue
            with_pip=$work/venv/bin/python
        fi
        printf 'uv %s: installing with %s, verified by environment/bootstrap.lock\n' "$uv_version" "$(command -v "$python")"
        PIP_USER=0 PIP_ROOT_USER_ACTION=ignore "$with_pip" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
            --require-hashes --target "$work/uv" -r environment/bootstrap.lock ||
            fail "pip could not install uv $uv_version (its own words are above): check the network or proxy (HTTPS_PROXY, PIP_CERT) and run this again, or put uv $uv_version on PATH."
        use_new_uv
        return
    done
    download_uv
    use_new_uv
}

# Extensions are compiled against it, so a Python without its headers does not count.
is_python() {
    "$1" -c 'import os, sys, sysconfig
header = os.path.join(sysconfig.get_paths()["include"], "Python.h")
sys.exit(sys.version_info[:2] != (3, 10) or not os.path.exists(header))' >/dev/null 2>&1
}

find_python() {
    for candidate in "$(readlink -f .venv/bin/python 2>/dev/null || :)" python3.10 python3 \
        "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.10.*/bin/python3.10 \
        "$("$uv" python find --managed-python --no-python-downloads 3.10 2>/dev/null || :)"; do
        if [ -n "$candidate" ] && is_python "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
}

if [ -n "${BUNDLE:-}" ]; then
    export PIP_NO_INDEX=1 PIP_FIND_LINKS="$BUNDLE/python" UV_OFFLINE=1 UV_FIND_LINKS="$BUNDLE/python"
fi

uv=$(find_uv)
if [ -z "$uv" ]; then
    install_uv
    uv=$uv_home/bin/uv
fi

python=$(find_python)
if [ -z "$python" ]; then
    printf 'Python 3.10: none with headers here, fetching one with uv\n'
    "$uv" python install --no-bin 3.10 ||
        fail "there is no Python 3.10 with headers here and uv could not fetch one: apt install python3.10-dev python3.10-venv (Ubuntu 22.04), dnf install python3.10-devel, or without root pyenv install 3.10; then run this again."
    python=$("$uv" python find --managed-python --no-python-downloads 3.10)
fi

if [ "${1:-}" = --tools ]; then
    shift
    tools=$cache/tools/$(sha256sum environment/tools.lock | cut -c 1-12)-$("$python" -c 'import platform; print(platform.python_version())')
    if [ ! -x "$tools/bin/python" ]; then
        mkdir -p "$cache/tools"
        work=$(mktemp -d "$cache/tools/.new.XXXXXX")
        trap 'rm -rf "$work"' EXIT INT TERM
        "$uv" venv --quiet --relocatable --python "$python" "$work/venv"
        UV_LINK_MODE=copy "$uv" pip sync --quiet --require-hashes --python "$work/venv/bin/python" environment/tools.lock ||
            fail "the tools in environment/tools.lock could not be installed (uv's own words are above): check the network or proxy (HTTPS_PROXY, SSL_CERT_FILE) and run this again."
        mv -T "$work/venv" "$tools"
    fi
    RACDINO_UV=$uv exec "$tools/bin/python" -E -s -m invoke "$@"
fi

# -E -s: a PYTHONPATH or user site of the shell must not reach into the setup.
RACDINO_UV=$uv exec "$python" -E -s -m scripts.setup "$@"
