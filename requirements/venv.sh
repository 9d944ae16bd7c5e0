#!/bin/sh
# Makes the virtual environment $VENV with $PYTHON. Debian and Ubuntu ship Python without ensurepip: as root the
# missing package is installed, anyone else is told its name in one line.
set -eu

version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || {
    echo "i2 needs Python 3.11 or newer: $PYTHON does not run; install python3, or name one: make PYTHON=python3.12" >&2
    exit 1
}
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "i2 needs Python 3.11 or newer: $PYTHON is $version; name a newer one: make PYTHON=python3.12" >&2
    exit 1
}
if ! "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing python$version-venv" >&2
        export DEBIAN_FRONTEND=noninteractive
        apt-get -qq install -y "python$version-venv" >/dev/null 2>&1 ||
            { apt-get -qq update && apt-get -qq install -y "python$version-venv" >/dev/null; }
    else
        echo "Python's venv module is missing: install it as root (Debian, Ubuntu: apt-get install python$version-venv)" >&2
        exit 1
    fi
fi
"$PYTHON" -m venv "$VENV"
