#!/usr/bin/env bash
# Installs the locked packages of a program for Node.js beside the other environments; gets Node.js where we may.
# usage: node_packages.sh PROGRAM_FOLDER ENVIRONMENT
set -euo pipefail
program=$1
environment=$2
have() { command -v node >/dev/null && command -v npm >/dev/null; }
if ! have && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq nodejs npm ||
      { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq nodejs npm; }; } >/dev/null 2>&1
fi
have || { echo "The tests with mqtt.js need node and npm (Debian: apt-get install nodejs npm)." >&2; exit 1; }
mkdir -p "$environment"
cp "$program"/package.json "$program"/package-lock.json "$program"/.npmrc "$environment"
cd "$environment"
npm ci --ignore-scripts --loglevel=error
