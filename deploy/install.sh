#!/usr/bin/env bash
# Installs Omni Watch from this checkout as a service, or brings an installed one up to this version.
#
#   sudo deploy/install.sh                 a service of the machine, in /opt/omni-watch
#   deploy/install.sh --user               a service of your own session, for PipeWire and PulseAudio
#   ... --dry-run                          only say what would be done
#   ... --roll-back                        back to the version before this one
#   ... --uninstall [--purge]              remove it; --purge: its configuration, tasks and model files too
#
# It may be run at any time, and does nothing when nothing is to be done. Each version gets a folder of its own, made
# while the old one goes on watching. The database is copied before it is changed; when its upgrade or the first start
# fails, the old version runs again on the database as it was, and this exits with 1.
#
#   --no-packages   leave Debian's packages alone        --no-models   fetch no model files
#   --no-start      enable it, but start nothing         --root DIR    below DIR instead of /, without an account (for
#                                                                      trying it out)
set -euo pipefail
umask 022

SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
ACTION=install SCOPE=system ROOT=
DRY=no PURGE=no PACKAGES=yes MODELS=yes START=yes
while [ $# -gt 0 ]; do
  case "$1" in
    --user) SCOPE=user ;;
    --dry-run) DRY=yes ;;
    --uninstall) ACTION=uninstall ;;
    --purge) PURGE=yes ;;
    --roll-back) ACTION=roll_back ;;
    --no-packages) PACKAGES=no ;;
    --no-models) MODELS=no ;;
    --no-start) START=no ;;
    --root) ROOT=${2:?--root needs a folder}; shift ;;
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) echo "unknown option '$1'; --help shows them" >&2; exit 64 ;;
  esac
  shift
done
[ "$PURGE" = no ] || [ "$ACTION" = uninstall ] || { echo "--purge belongs to --uninstall" >&2; exit 64; }

UNIT=omni-watch.service
ACCOUNT=omni-watch
if [ "$SCOPE" = system ]; then
  OPT=$ROOT/opt/omni-watch
  CONFIG=$ROOT/etc/omni-watch STATE=$ROOT/var/lib/omni-watch CACHE=$ROOT/var/cache/omni-watch
  UNITS=$ROOT/etc/systemd/system
  COMMAND=$ROOT/usr/local/bin/omni-watch
  UNIT_FILE=deploy/$UNIT
else
  [ -z "$ROOT" ] || { echo "--root and --user do not go together" >&2; exit 64; }
  OPT=${XDG_DATA_HOME:-$HOME/.local/share}/omni-watch
  CONFIG=${XDG_CONFIG_HOME:-$HOME/.config}/omni-watch STATE=${XDG_STATE_HOME:-$HOME/.local/state}/omni-watch
  CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/omni-watch
  UNITS=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user
  COMMAND=$HOME/.local/bin/omni-watch
  UNIT_FILE=deploy/user/$UNIT
fi
CURRENT=$OPT/current    # a link to the version that runs
PREVIOUS=$OPT/previous  # a link to the one before
COPY=$OPT/database-before  # a file that names the copy of the database that fits PREVIOUS
DATABASE=$STATE/omni-watch.db
DROPIN=$UNITS/$UNIT.d/credentials.conf

# --- how things are done and said ---

CHANGES=0
say() { printf '%s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# do it TEXT COMMAND...: say what is done, and do it unless this is a dry run
step() {
  CHANGES=$((CHANGES + 1))
  if [ "$DRY" = yes ]; then
    say "would $1"
  else
    say "$1"
    "${@:2}"
  fi
}

has_account() { [ "$SCOPE" = system ] && [ -z "$ROOT" ]; }
control() { if [ "$SCOPE" = user ]; then systemctl --user "$@"; else systemctl "$@"; fi; }
is_systemd_there() { control show --property=Version --value >/dev/null 2>&1; }
# also while it starts, or waits to be started again
is_running() { case "$(control is-active "$UNIT" 2>/dev/null)" in active | activating | reloading) ;; *) return 1 ;; esac; }
link_of() { if [ -L "$1" ]; then readlink "$1"; fi; }

# a file from standard input, written only when it differs; put FILE MODE [OWNER]
put() {
  local file=$1 mode=$2 owner=${3:-} content
  content=$(cat; echo x)
  content=${content%x}
  if [ -f "$file" ] && [ "$(cat "$file"; echo x)" = "${content}x" ] && [ "$(stat -c %a "$file")" = "${mode#0}" ]; then
    return
  fi
  step "write $file" put_now "$file" "$mode" "$owner" "$content"
}
put_now() {
  mkdir -p "$(dirname "$1")"
  printf '%s' "$4" >"$1.new"
  chmod "$2" "$1.new"
  if [ -n "$3" ] && has_account; then chown "$3" "$1.new"; fi
  mv -f "$1.new" "$1"
}

folder() { # folder DIR MODE OWNER
  [ -d "$1" ] || step "make the folder $1" folder_now "$@"
}
folder_now() {
  mkdir -p "$1"
  chmod "$2" "$1"
  if has_account; then chown "$3" "$1"; fi
}

point() { # point LINK TARGET, in one move that never leaves LINK without a target
  ln -sfn "$2" "$1.new"
  mv -fT "$1.new" "$1"
}

# --- the parts ---

# What this checkout holds, as a name: its version and a sum over its files.
release_name() {
  local version sum
  version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$SOURCE/omni_watch/__init__.py")
  sum=$(cd "$SOURCE" && find omni_watch rules migrations "deploy/$UNIT" "deploy/user/$UNIT" pyproject.toml \
    constraints.txt README.md LICENSE NOTICE -type f ! -path '*/__pycache__/*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-10)
  echo "${version:?}-$sum"
}

# The program of a version, as the service has it: its user, its folders, its secrets.
service_variables() {
  [ "$SCOPE" = system ] || return 0
  printf '%s\n' "HOME=$STATE" "CONFIGURATION_DIRECTORY=$CONFIG" "STATE_DIRECTORY=$STATE" "CACHE_DIRECTORY=$CACHE" \
    "CREDENTIALS_DIRECTORY=$CONFIG/credentials"
}
program() { # program RELEASE ARGUMENTS...
  local variables as=()
  mapfile -t variables < <(service_variables)
  if has_account; then as=(runuser -u "$ACCOUNT" --); fi
  (cd / && "${as[@]}" env "${variables[@]}" "$1/bin/omni-watch" "${@:2}")
}
look_up_database() { # look_up_database RELEASE: where its configuration has the database
  DATABASE=$(program "$1" config show --json |
    "$1/bin/python" -c 'import json, sys; print(json.load(sys.stdin)["settings"]["house"]["state_dir"])')/omni-watch.db
}
revision() { # revision RELEASE: which one the database has; nothing when there is no database
  [ -e "$DATABASE" ] || return 0
  program "$1" db check --database "$DATABASE" --json |
    "$1/bin/python" -c 'import json, sys; print(json.load(sys.stdin)["revision"])'
}

make_account() {
  has_account || return 0
  if ! id "$ACCOUNT" >/dev/null 2>&1; then
    step "make the account $ACCOUNT" useradd --system --user-group --home-dir "$STATE" --no-create-home \
      --shell /usr/sbin/nologin "$ACCOUNT"
  fi
  local group
  for group in audio video render; do
    if getent group "$group" >/dev/null && ! id -nG "$ACCOUNT" 2>/dev/null | tr ' ' '\n' | grep -qx "$group"; then
      step "let $ACCOUNT use what belongs to the group $group" usermod --append --groups "$group" "$ACCOUNT"
    fi
  done
}

make_folders() {
  folder "$OPT" 0755 root:root
  folder "$OPT/releases" 0755 root:root
  folder "$CONFIG" 0750 "root:$ACCOUNT"
  folder "$CONFIG/credentials" 0750 "root:$ACCOUNT"
  folder "$STATE" 0700 "$ACCOUNT:$ACCOUNT"
  folder "$CACHE" 0700 "$ACCOUNT:$ACCOUNT"
}

make_release() {
  if [ -e "$RELEASE/.complete" ]; then return; fi
  [ ! -e "$RELEASE" ] || step "remove the half-made $RELEASE" rm -rf "$RELEASE"
  step "make $RELEASE; the Python packages take some minutes" make_release_now
}
make_release_now() {
  local python
  python=$("$SOURCE/deploy/find-python.sh")
  install_packages "$python" || { rm -rf "$RELEASE"; fail "the Python packages could not be installed; nothing else was changed"; }
  mkdir -p "$RELEASE/share/deploy/user"
  cp "$SOURCE/deploy/$UNIT" "$RELEASE/share/deploy/"
  cp "$SOURCE/deploy/user/$UNIT" "$RELEASE/share/deploy/user/"
  chmod -R go=rX "$RELEASE"
  touch "$RELEASE/.complete"
}
install_packages() {
  local pip=("$RELEASE/bin/python" -m pip install --quiet --disable-pip-version-check --no-input
    --constraint "$SOURCE/constraints.txt")
  "$1" -m venv "$RELEASE" &&
    "${pip[@]}" "torch==$(sed -n 's/^torch==//p' "$SOURCE/constraints.txt")" &&
    "${pip[@]}" hatchling editables setuptools &&
    "${pip[@]}" --no-build-isolation "${SOURCE}[piper]"
}

make_configuration() {
  put "$CONFIG/config.example.toml" 0644 <"$SOURCE/deploy/config.example.toml"
  [ "$SCOPE" = system ] || return 0
  local secret names=()
  for secret in "$CONFIG/credentials"/*; do
    [ -f "$secret" ] || continue
    names+=("$(basename "$secret")")
    if [ "$(stat -c %a "$secret")" != 640 ]; then
      step "let nobody but the service read $secret" chmod 0640 "$secret"
    fi
    if has_account && [ "$(stat -c %U:%G "$secret")" != "root:$ACCOUNT" ]; then
      step "give $secret to root and the service" chown "root:$ACCOUNT" "$secret"
    fi
  done
  if [ ${#names[@]} -eq 0 ]; then
    [ ! -e "$DROPIN" ] || step "remove $DROPIN: there are no credentials any more" rm -f "$DROPIN"
    return
  fi
  {
    printf '# The files of %s; written by install.sh\n[Service]\n' "/etc/omni-watch/credentials"
    for secret in "${names[@]}"; do
      printf 'LoadCredential=%s:/etc/omni-watch/credentials/%s\n' "$secret" "$secret"
    done
  } | put "$DROPIN" 0644
}

make_command() {
  if [ "$SCOPE" = user ]; then
    [ "$(link_of "$COMMAND")" = "$CURRENT/bin/omni-watch" ] || step "make the command $COMMAND" make_command_link
    return
  fi
  local become='exec'
  # shellcheck disable=SC2016 # to be expanded when the command runs
  if has_account; then
    become="if [ \"\$(id -un)\" = $ACCOUNT ]; then exec $CURRENT/bin/omni-watch \"\$@\"; fi
[ \"\$(id -u)\" = 0 ] || { echo 'The tasks belong to the service; please: sudo omni-watch ...' >&2; exit 77; }
exec runuser -u $ACCOUNT --"
  fi
  {
    printf '#!/bin/sh\n# Omni Watch as the user of the service, on its tasks; written by install.sh\n'
    printf 'export %s\n' "$(service_variables | tr '\n' ' ')"
    printf '%s %s/bin/omni-watch "$@"\n' "$become" "$CURRENT"
  } | put "$COMMAND" 0755
}
make_command_link() {
  mkdir -p "$(dirname "$COMMAND")"
  point "$COMMAND" "$CURRENT/bin/omni-watch"
}

put_unit() { put "$UNITS/$UNIT" 0644 <"$1"; }
remove_file() { if [ -e "$1" ] || [ -L "$1" ]; then step "remove $1" rm -rf "$1"; fi; }

# --- the ways between two versions ---

# Runs in the new version: switch RELEASE UNIT-FILE. Returns 1 when it does not run, with everything as it then is.
switch() {
  local release=$1 unit=$2
  put_unit "$unit"
  [ "$(link_of "$CURRENT")" = "$release" ] || step "let $release be the version that runs" point "$CURRENT" "$release"
  if is_systemd_there; then
    if [ "$CHANGES" -gt 0 ]; then step "let systemd read its units again" control daemon-reload; fi
    if ! control --quiet is-enabled "$UNIT" 2>/dev/null; then
      step "start it with the machine from now on" control --quiet enable "$UNIT"
    fi
  else
    say "systemd does not run here: once it does, systemctl enable --now omni-watch"
  fi
}

start() { is_running || step "start it, and wait for its first decided second" control start "$UNIT"; }
stop() { if is_running; then step "stop it" control stop "$UNIT"; fi; }

install_it() {
  RELEASE=$OPT/releases/$(release_name)
  OLD=$(link_of "$CURRENT")
  say "Omni Watch $(basename "$RELEASE"), as a service of ${SCOPE/system/the machine}, in $OPT"
  if [ "$PACKAGES" = yes ]; then "$SOURCE/deploy/debian-packages.sh" python service; fi
  make_account
  make_folders
  make_release
  make_configuration
  make_command
  if [ "$DRY" = yes ]; then
    [ "$OLD" = "$RELEASE" ] || say "would then check the configuration, copy and upgrade the database, and start this version"
    summary
    return
  fi
  if [ "$MODELS" = yes ] && [ "$OLD" != "$RELEASE" ]; then
    say "fetch the model files that are missing"
    program "$RELEASE" models pull || say "Going on without them; omni-watch doctor says which abilities are missing."
  fi
  if [ ! -f "$CONFIG/config.toml" ]; then
    switch "$RELEASE" "$SOURCE/$UNIT_FILE"
    summary
    say "There is no configuration yet. Next: write $CONFIG/config.toml" \
      "(config.example.toml beside it shows how), then run this again."
    return
  fi
  program "$RELEASE" config check || fail "the configuration is wrong for this version (see above); nothing that runs was changed"
  look_up_database "$RELEASE"
  if [ -n "$OLD" ] && [ "$OLD" != "$RELEASE" ]; then
    upgrade
  else
    switch "$RELEASE" "$SOURCE/$UNIT_FILE"
    if [ "$START" = yes ] && is_systemd_there; then
      start || fail "it did not start; journalctl -u omni-watch -n 50 says why"
    fi
  fi
  if [ "$SCOPE" = user ]; then linger; fi
  summary
}

linger() {
  if [ "$(loginctl show-user "$(id -un)" --property=Linger --value 2>/dev/null)" = no ]; then
    step "let it run when nobody is logged in" loginctl enable-linger ||
      say "That was refused; please ask: sudo loginctl enable-linger $(id -un)"
  fi
}

# From OLD to RELEASE, with the way back.
upgrade() {
  local was_running=no before copy=
  trap 'say "Not in the middle of an upgrade; it will be undone or finished in a moment."' INT TERM HUP
  if is_running; then was_running=yes; fi
  stop
  before=$(revision "$OLD")
  if [ -n "$before" ]; then
    copy=$(dirname "$DATABASE")/backups/$(basename "$OLD")-$(date -u +%Y%m%dT%H%M%S).db
    step "copy the database to $copy" copy_database "$copy"
  fi
  if {
    upgrade_database && switch "$RELEASE" "$SOURCE/$UNIT_FILE" &&
      { [ "$START" = no ] || [ "$was_running" = no ] || ! is_systemd_there || start; }
  }; then
    step "remember $OLD, for --roll-back" point "$PREVIOUS" "$OLD"
    printf '%s\n' "$copy" >"$COPY"
    tidy
    if [ "$was_running" = no ]; then say "It did not run before, so it was not started: systemctl start omni-watch"; fi
    return
  fi
  say "That failed. Going back to $(basename "$OLD"), on the database as it was."
  go_back "$OLD" "$before" "$copy"
  if [ "$was_running" = yes ]; then start || fail "the old version did not start again either; journalctl -u omni-watch -n 50"; fi
  fail "the upgrade was undone; journalctl -u omni-watch -n 100 says why it failed"
}
copy_database() { program "$OLD" db backup --database "$DATABASE" "$1" >/dev/null; }
upgrade_database() {
  if [ ! -e "$DATABASE" ]; then return; fi
  step "bring the database up to date" program "$RELEASE" db upgrade --database "$DATABASE"
}

# go_back RELEASE REVISION COPY: that version, and the copy in the place of a database that it cannot read
go_back() {
  control stop "$UNIT" 2>/dev/null || true
  control reset-failed "$UNIT" 2>/dev/null || true # its failed starts are none of the old version's
  if [ -n "$3" ] && [ "$(revision "$1")" != "$2" ]; then
    step "put the copy of the database back" program "$1" db restore --database "$DATABASE" "$3"
  fi
  switch "$1" "$1/share/$UNIT_FILE"
}

roll_back_it() {
  local now old copy=
  now=$(link_of "$CURRENT")
  old=$(link_of "$PREVIOUS")
  if [ -z "$old" ] || [ ! -e "$old/.complete" ]; then fail "there is no version before this one to go back to"; fi
  if [ -s "$COPY" ]; then copy=$(cat "$COPY"); fi
  say "Back from $(basename "$now") to $(basename "$old")"
  if [ "$DRY" = yes ]; then
    say "would stop it, put $copy back if the old version cannot read the database, and start the old version"
    return
  fi
  look_up_database "$now"
  stop
  if [ -n "$copy" ] && [ -e "$copy" ]; then
    go_back "$old" "$(revision_of_copy "$old" "$copy")" "$copy"
  else
    switch "$old" "$old/share/$UNIT_FILE"
  fi
  rm -f "$PREVIOUS" "$COPY"
  if [ "$START" = yes ] && is_systemd_there; then start || fail "it did not start; journalctl -u omni-watch -n 50"; fi
  summary
}
revision_of_copy() { (DATABASE=$2 && revision "$1"); }

# Versions that are neither the current nor the one before.
tidy() {
  local release
  for release in "$OPT/releases"/*; do
    case "$release" in "$RELEASE" | "$OLD") ;; *) step "remove the old $release" rm -rf "$release" ;; esac
  done
}

uninstall_it() {
  say "Removing Omni Watch as a service of ${SCOPE/system/the machine}"
  if is_systemd_there; then
    stop
    if control --quiet is-enabled "$UNIT" 2>/dev/null; then step "no longer start it" control --quiet disable "$UNIT"; fi
  fi
  remove_file "$UNITS/$UNIT"
  remove_file "$UNITS/$UNIT.d"
  remove_file "$COMMAND"
  remove_file "$OPT"
  if is_systemd_there && [ "$CHANGES" -gt 0 ]; then step "let systemd read its units again" control daemon-reload; fi
  if [ "$PURGE" = yes ]; then
    remove_file "$CONFIG"
    remove_file "$STATE"
    remove_file "$CACHE"
    if has_account && id "$ACCOUNT" >/dev/null 2>&1; then step "remove the account $ACCOUNT" userdel "$ACCOUNT"; fi
  else
    say "Kept: $CONFIG, $STATE (tasks and alerts) and $CACHE; --purge removes them too."
  fi
  summary
}

summary() {
  if [ "$CHANGES" -eq 0 ]; then
    say "Nothing was to be done."
  elif [ "$DRY" = yes ]; then
    say "Nothing was changed: this was a dry run."
  else
    say "Done."
  fi
}

if [ "$DRY" = no ] && has_account && [ "$(id -u)" -ne 0 ]; then
  echo "This needs root: sudo $0 (or --user, for a service of your own session; or --dry-run)" >&2
  exit 77
fi
if [ "$SCOPE" = user ] && [ "$(id -u)" -eq 0 ] && [ -n "${SUDO_USER:-}" ]; then
  fail "--user installs for whoever runs it; run it without sudo"
fi
"${ACTION}_it"
