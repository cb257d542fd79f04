#!/usr/bin/env bash
# What the tests between network namespaces need: ip, unshare, nsenter and nft; installed where we may.
set -euo pipefail
PATH="$PATH:/usr/sbin:/sbin"
have() { command -v ip >/dev/null && command -v unshare >/dev/null && command -v nsenter >/dev/null && command -v nft >/dev/null; }
have && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    packages=(iproute2 util-linux nftables)
    { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${packages[@]}" ||
      { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${packages[@]}"; }; } >/dev/null 2>&1
    have && exit 0
fi
echo "The tests between network namespaces need ip, unshare, nsenter and nft (Linux; Debian: apt-get install iproute2 util-linux nftables)." >&2
exit 1
