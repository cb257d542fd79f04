#!/usr/bin/env bash
# Makes a virtual environment from a file of hashed pins; gets uv first where it is missing.
# usage: environment.sh ENVIRONMENT PINS     (PYTHON names the interpreter, python3 unless set)
set -euo pipefail
environment=$1
pins=$2
python=${PYTHON:-python3}

"$python" - <<'PY' || { echo "Python 3.11 or newer is needed: say which with  make PYTHON=/path/to/python3.11" >&2; exit 1; }
import sys
sys.exit(sys.version_info < (3, 11))
PY

get_uv() {
    # Inside the checkout, so that neither HOME nor the system is touched.
    local venv=.cache/uv
    if "$python" -m venv "$venv" >/dev/null 2>&1; then
        "$venv/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.txt
        uv="$PWD/$venv/bin/uv"
    else  # a Python without ensurepip: its own pip, if it has one
        "$python" -m pip install -q --disable-pip-version-check --require-hashes --target "$venv" -r requirements/uv.txt || {
            echo "This Python has neither venv nor pip: install one (Debian: apt-get install python3-venv), or install uv." >&2
            exit 1
        }
        uv="$PWD/$venv/bin/uv"
    fi
}

mkdir -p .cache
uv=$(command -v uv || true)
[ -n "$uv" ] || { [ -x .cache/uv/bin/uv ] && uv="$PWD/.cache/uv/bin/uv"; } || get_uv
echo "$uv" > .cache/uv-path
export UV_CACHE_DIR=${UV_CACHE_DIR:-$PWD/.cache/uv-packages} UV_NO_PROGRESS=1 UV_LINK_MODE=${UV_LINK_MODE:-hardlink}
# No --quiet on failure: what a package index says is the best hint there is.
"$uv" venv -q --clear --no-project --python "$(command -v "$python")" "$environment"
"$uv" pip install -q --no-config --python "$environment/bin/python" --require-hashes -r "$pins"
