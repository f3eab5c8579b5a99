#!/usr/bin/env bash
# Debian packages that Omni Watch needs beside its Python environment.
#
#   deploy/debian-packages.sh python run     what `make demo` needs
#   deploy/debian-packages.sh python run test   and what the tests need on top
#   deploy/debian-packages.sh python service    what the installed service needs: no broker, which may run elsewhere
#
# Installs what is missing when called as root; otherwise prints the one command to run and exits 1.
# Nothing is asked, nothing that is there already is touched, and no service is started on the way: the demo and the
# tests start a broker of their own, on a free port.
set -euo pipefail

packages_of() {
  case "$1" in
    python) # to make the environment
      echo python3 python3-venv ;;
    service) # sound in and out, recordings, the voice that is always there; what OpenCV links against
      echo libportaudio2 ffmpeg espeak-ng libgl1 libglib2.0-0 libsm6 libxext6 ;;
    run) # the same, and a broker
      echo mosquitto; packages_of service ;;
    test) # a room of sound without a sound card, an RTSP camera, and what looks through units and scripts
      echo pulseaudio pulseaudio-utils libasound2-plugins openssl procps systemd shellcheck \
        python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good \
        gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav ;;
    *)
      echo "unknown group '$1'; there are python, service, run and test" >&2
      exit 64 ;;
  esac
}

missing_of() {
  local package
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
  done
}

# Package lists may be absent (a fresh container) or older than the mirror: fetch them only when it cannot do without.
install() {
  export DEBIAN_FRONTEND=noninteractive
  local command=(apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 "$@")
  apt-cache show "$@" >/dev/null 2>&1 && "${command[@]}" && return
  apt-get update -q
  "${command[@]}"
}

# Debian starts a service as soon as its package is unpacked unless this file says no; see invoke-rc.d(8).
POLICY=${POLICY:-/usr/sbin/policy-rc.d}
without_starting_services() {
  if [ ! -e "$POLICY" ]; then
    trap 'rm -f "$POLICY"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$POLICY"
    chmod 755 "$POLICY"
  fi
  "$@"
}

[ $# -gt 0 ] || { echo "usage: $0 python|service|run|test ..." >&2; exit 64; }
wanted=()
for group in "$@"; do
  names=$(packages_of "$group")
  read -ra names <<<"${names//$'\n'/ }"
  wanted+=("${names[@]}")
done

if ! command -v dpkg-query >/dev/null; then
  echo "This is not Debian: please see to the counterparts of ${wanted[*]} yourself." >&2
  exit 0
fi

mapfile -t missing < <(missing_of "${wanted[@]}")
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
  echo "Some Debian packages are missing. Please run this once, then the same make command again:" >&2
  echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
  exit 1
fi
echo "Installing Debian packages: ${missing[*]}"
without_starting_services install "${missing[@]}" </dev/null
