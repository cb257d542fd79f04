#!/usr/bin/env bash
# The foreign MQTT clients of the interop tests: on the PATH, or installed, or unpacked below .cache.
set -euo pipefail
have() { command -v mosquitto_sub >/dev/null && command -v mosquitto_pub >/dev/null; }
unpacked=.cache/mosquitto/usr/bin
have && exit 0
[ -x "$unpacked/mosquitto_sub" ] && exit 0
if command -v apt-get >/dev/null; then
    if [ "$(id -u)" = 0 ]; then
        { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq mosquitto-clients ||
          { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq mosquitto-clients; }; } >/dev/null 2>&1
        have && exit 0
    fi
    # Without root: the packages themselves, unpacked beside the other environments.
    mkdir -p .cache/mosquitto
    (cd .cache/mosquitto && apt-get download -qq mosquitto-clients libmosquitto1 libcjson1 >/dev/null 2>&1 &&
        for package in ./*.deb; do dpkg -x "$package" .; done)
    [ -x "$unpacked/mosquitto_sub" ] && exit 0
fi
echo "The tests need mosquitto_pub and mosquitto_sub: install mosquitto's clients (Debian: apt-get install mosquitto-clients; macOS: brew install mosquitto)." >&2
exit 1
