#!/usr/bin/env bash
# Installs what compiles for another architecture than this machine's: Debian's cross compiler, Rust's libraries, and Debian's packages of the
# libraries that our programs link, unpacked into a folder of the cache. The machine's own packages stay of one architecture.
#
#   sysroot.sh x86_64|aarch64   prints the environment of the build, for `eval`
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pingpipeline
say() { echo "sysroot.sh: $*" >&2; }
# shellcheck source=../testbed/downloads.sh
. "$here/../testbed/downloads.sh"

case ${1:-} in
  x86_64) debian=amd64 compiler=x86-64-linux-gnu ;;
  aarch64) debian=arm64 compiler=aarch64-linux-gnu ;;
  *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac
triple=$1-linux-gnu target=$1-unknown-linux-gnu
have apt-get || die "compiling for $1 on $(uname -m) needs Debian or Ubuntu; build on an $1 machine instead, with ARCHS=$1"
have rustup || die "compiling for $1 needs rustup, which installs Rust's libraries for it"

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
if ! have "$triple-g++"; then
  say "installing a compiler for $1"
  retry quietly as_root apt-get -qq update
  retry quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends -y "g++-$compiler"
fi
rustup target list --installed | grep -qx "$target" || retry quietly rustup target add "$target"

# Packages of another architecture, without making them installable on this machine.
sysroot=$cache/sysroot-$1
if [ ! -d "$sysroot" ]; then
  say "fetching libraries for $1"
  work=$(mktemp -d "$sysroot.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work"/{lists/partial,archives/partial,debs,root/var/lib/dpkg/info}
  chmod 755 "$work" "$work/debs"
  apt=(apt-get -qq -o "APT::Architecture=$debian" -o "APT::Architectures=$debian" -o "Dir::State::Lists=$work/lists"
    -o "Dir::Cache=$work" -o Dir::State::status=/dev/null -o APT::Sandbox::User=root)
  retry quietly "${apt[@]}" update
  (cd "$work/debs" && retry quietly "${apt[@]}" download libc6 libgcc-s1 libstdc++6 libssl3 libssl-dev zlib1g)
  root=$work/root database=$work/root/var/lib/dpkg
  for folder in bin sbin lib lib64; do mkdir -p "$root/usr/$folder"; ln -s "usr/$folder" "$root/$folder"; done
  # As dpkg records packages, so that its tools find which library belongs to which package: the format with architectures in names.
  echo 1 >"$database/info/format"
  for package in "$work"/debs/*.deb; do
    dpkg-deb --extract "$package" "$work/files"
    tar -C "$work/files" -cf - . | tar -C "$root" --keep-directory-symlink -xf -
    name=$(dpkg-deb --field "$package" Package):$debian
    # By each name of a file: dpkg-shlibdeps asks by its place on this machine, and below /usr.
    (cd "$work/files" && find . -mindepth 1 -printf '/%P\n') | sed 'p; s|^/lib|/usr/lib|' | sort -u |
      sed "p; s|^|$sysroot|" >"$database/info/$name.list"
    dpkg-deb --control "$package" "$work/control"
    for file in shlibs symbols; do
      [ ! -f "$work/control/$file" ] || cp "$work/control/$file" "$database/info/$name.$file"
    done
    { sed '/^Package:/a Status: install ok installed' "$work/control/control"; echo; } >>"$database/status"
    rm -rf "$work/files" "$work/control"
  done
  # Links that would lead to this machine's files.
  find "$root" -type l -lname '/*' | while read -r link; do ln -sfnr "$root$(readlink "$link")" "$link"; done
  mv -T "$root" "$sysroot"
fi

# The compiler has a C library of its own; the rest is in the folder.
wrapper=$cache/sysroot-$1/cc
for language in gcc g++; do
  cat >"$wrapper-$language.new" <<END
#!/bin/sh
exec $triple-$language -idirafter $sysroot/usr/include -idirafter $sysroot/usr/include/$triple \\
  -L$sysroot/usr/lib/$triple -Wl,-rpath-link,$sysroot/usr/lib/$triple "\$@"
END
  chmod +x "$wrapper-$language.new"
  mv "$wrapper-$language.new" "$wrapper-$language"
done
variable=${target//-/_}
upper=${variable^^}
host=$(uname -m)_unknown_linux_gnu
# librdkafka's script knows only CC; what runs while building keeps this machine's.
cat <<END
export CC=$wrapper-gcc CXX=$wrapper-g++ CC_$host=cc CXX_$host=c++ AR_$host=ar
export CC_$variable=$wrapper-gcc CXX_$variable=$wrapper-g++ AR_$variable=$triple-ar
export CARGO_TARGET_${upper}_LINKER=$wrapper-gcc
export ${upper}_OPENSSL_LIB_DIR=$sysroot/usr/lib/$triple ${upper}_OPENSSL_INCLUDE_DIR=$sysroot/usr/include
export STRIP=$triple-strip READELF=$triple-readelf SYSROOT=$sysroot
END
