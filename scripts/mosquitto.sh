#!/usr/bin/env bash
# Mosquitto for the tests, broker and clients: on the PATH, or unpacked below .cache. Nothing is installed: the package
# would start a broker on this machine, now and at each boot.
set -euo pipefail
unpacked=.cache/mosquitto/usr
programs=(mosquitto mosquitto_pub mosquitto_sub mosquitto_rr)
have() {
    local folders="$PATH:/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin:$unpacked/sbin:$unpacked/bin" program
    for program in "${programs[@]}"; do PATH="$folders" command -v "$program" >/dev/null || return 1; done
}

# The packages that this machine lacks for it, unpacked one over the other.
unpack() {
    local lacking
    mapfile -t lacking < <(apt-get -s install --no-install-recommends mosquitto mosquitto-clients | awk '/^Inst / { print $2 }')
    [ "${#lacking[@]}" -gt 0 ] || return 1
    rm -rf .cache/mosquitto && mkdir -p .cache/mosquitto
    (cd .cache/mosquitto && apt-get download "${lacking[@]}" && for package in ./*.deb; do dpkg -x "$package" .; done)
} >/dev/null 2>&1

# A script in the program's place that shows it the libraries beside it; the process id stays the program's own.
wrap() {
    local real="$PWD/$unpacked/lib/thalovant/$(basename "$1")" libraries
    libraries=$(find "$PWD/.cache/mosquitto" -name '*.so*' -exec dirname {} + | sort -u | paste -sd :)
    mkdir -p "$(dirname "$real")"
    mv "$1" "$real"
    printf '#!/bin/sh\nLD_LIBRARY_PATH="%s" exec "%s" "$@"\n' "$libraries" "$real" >"$1"
    chmod +x "$1"
}

have && exit 0
if command -v apt-get >/dev/null; then
    if unpack || { [ "$(id -u)" = 0 ] && apt-get update -qq >/dev/null 2>&1 && unpack; }; then
        for program in "${programs[@]}"; do
            for place in "$unpacked/sbin/$program" "$unpacked/bin/$program"; do [ ! -f "$place" ] || wrap "$place"; done
        done
        have && exit 0
    fi
fi
echo "The tests need Mosquitto 2.0 or newer, the broker and its clients: install them (Debian: apt-get install mosquitto mosquitto-clients; macOS: brew install mosquitto)." >&2
exit 1
