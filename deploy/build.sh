#!/usr/bin/env bash
# Makes the root file system of Tollgate's image in an empty directory: the program, the libraries it
# is linked to, certificate authorities, a user, and nothing else: no shell, no package manager. The
# Dockerfile does nothing but run this and copy the result.
#
#   deploy/build.sh DIRECTORY                  builds the program (release) and lays it out
#   deploy/build.sh --binary FILE DIRECTORY    lays out a program that was built before
#   … --try                                    then runs it there, as the image's user, with nothing
#                                              else in sight
#
# Needs Rust and a C compiler to build, and ldd. The user is 4100, which owns /var/lib/tollgate.
set -euo pipefail

user=4100
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

main() {
  local binary="" root="" try=false
  while (($#)); do
    case $1 in
      --binary) binary=${2:?--binary wants a file} && shift ;;
      --try) try=true ;;
      -*) fail "no option $1" ;;
      *) root=$1 ;;
    esac
    shift
  done
  [[ -n $root ]] || fail "say which directory: deploy/build.sh DIRECTORY"
  [[ -z $(ls -A "$root" 2>/dev/null) ]] || fail "$root is not empty"
  if [[ -z $binary ]]; then
    build
    binary=${CARGO_TARGET_DIR:-$source/target}/release/tollgate
  fi
  [[ -f $binary && -x $binary ]] \
    || fail "$binary is no program: build it (cargo build), or leave --binary out"
  install -d -m 755 "$root"
  lay_out "$binary" "$root"
  if $try; then try_out "$root"; fi
}

build() { (cd "$source" && cargo build --release --locked --bin tollgate); }

lay_out() {
  local binary=$1 root=$2 library authorities
  install -D -m 755 "$binary" "$root/usr/local/bin/tollgate"
  # Where the program looks for them, the loader itself included.
  while read -r library; do
    install -D -m 755 "$library" "$root$library"
  done < <(ldd "$binary" 2>/dev/null | grep -o '/[^ ]*')
  mkdir -p "$root/etc/tollgate" "$root/run/secrets"
  printf 'root:x:0:0:root:/:/none\ntollgate:x:%d:%d::/var/lib/tollgate:/none\n' $user $user >"$root/etc/passwd"
  printf 'root:x:0:\ntollgate:x:%d:\n' $user >"$root/etc/group"
  echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
  # The authorities of the system, where there are any; those of Mozilla are in the program.
  authorities=/etc/ssl/certs/ca-certificates.crt
  [[ ! -e $authorities ]] || install -D -m 644 $authorities "$root$authorities"
  install -D -m 644 "$source/LICENSE" "$root/usr/share/doc/tollgate/LICENSE"
  install -d -m 1777 "$root/tmp"
  install -d -m 700 "$root/var/lib/tollgate"
  # Without the right to give files away the directory is the caller's, as is the rest.
  chown $user:$user "$root/var/lib/tollgate" 2>/dev/null || ((EUID != 0))
}

# Runs the program with DIRECTORY as its root: it finds its libraries and its user, and every built-in
# default holds there.
try_out() {
  local root=$1 within=(unshare --user --root="$1") who="a user without rights"
  # Numbers, for chroot looks names up out here.
  if ((EUID == 0)); then within=(chroot --userspec=$user:$user "$root") who="user $user"; fi
  local run=(env -i PATH=/usr/local/bin "$(command -v "${within[0]}")" "${within[@]:1}")
  "${run[@]}" /usr/local/bin/tollgate --version
  "${run[@]}" /usr/local/bin/tollgate check
  echo "Tried: with $root as its root and nothing else in sight, as $who, the program starts, finds its" \
    "libraries, and takes every built-in default."
}

fail() {
  echo "deploy/build.sh: $1" >&2
  exit 2
}

main "$@"
