#!/usr/bin/env bash
# Creates the root folder of an image: the given files and folders, the shared libraries that they need, and what any program may
# need (users, name resolution, certificate authorities).
#
#   rootfs.sh ROOT PATH[=TARGET]...   copies each PATH to TARGET below ROOT; by default to the same path
#
# Programs stay dynamically linked because glibc loads libraries at run time to resolve names, and because Debian patches these
# libraries. Only linked libraries are copied: no shell, no package manager.
set -euo pipefail

root=$1
shift

# Debian has everything below /usr.
mkdir -p "$root"/{etc/ssl/certs,tmp,usr/{bin,sbin,lib,lib64}}
for folder in bin sbin lib lib64; do ln -sfn usr/$folder "$root/$folder"; done
chmod 1777 "$root/tmp"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
printf 'root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin\n' >"$root/etc/passwd"
printf 'root:x:0:\nnonroot:x:65532:\n' >"$root/etc/group"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"

copy_libraries() { # copy_libraries FILE, with the loader
  local library
  # Fails for static programs and for files that are not programs.
  { ldd "$1" 2>/dev/null || true; } | sed -n 's/^[^/]*\(\/[^ ]*\) (0x.*/\1/p' | while read -r library; do
    [ -e "$root$library" ] || install -D "$(realpath "$library")" "$root$library"
  done
}

for entry in "$@"; do
  path=${entry%%=*} target=${entry#*=}
  mkdir -p "$(dirname "$root$target")"
  cp -RTH --preserve=mode "$path" "$root$target"
  find -L "$root$target" -type f \( -perm -100 -o -name '*.so*' \) -print | while read -r file; do
    copy_libraries "$file"
  done
done
