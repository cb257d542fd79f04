#!/usr/bin/env bash
# What the test of the systemd unit needs: systemd-analyze, which judges the file; nothing of systemd has to run.
set -euo pipefail
have() { command -v systemd-analyze >/dev/null; }
have && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq systemd ||
      { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq systemd; }; } >/dev/null 2>&1
    have && exit 0
fi
echo "The test of the systemd unit needs systemd-analyze (Linux; Debian: apt-get install systemd)." >&2
exit 1
