#!/usr/bin/env bash
# Makes the root folder of an image: the named files and folders, every shared library that they need, and what any
# program may look for (users, time zone, certificate authorities).
#
#   rootfs.sh ROOT PATH[=PLACE]...   each PATH at the same PLACE below ROOT, unless another one is given
#
# Programs stay dynamic: glibc reads parts of itself at run time when it resolves names, which a static program cannot
# rely on, and the libraries are those that Debian keeps patched. Only what a program links to is copied: no shell, no
# package manager.
set -euo pipefail

root=$1
shift

# Debian keeps everything below /usr.
mkdir -p "$root"/{etc/ssl/certs,tmp,usr/{bin,sbin,lib,lib64}}
for folder in bin sbin lib lib64; do ln -sfn usr/$folder "$root/$folder"; done
chmod 1777 "$root/tmp"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
printf 'root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin\n' >"$root/etc/passwd"
printf 'root:x:0:\nnonroot:x:65532:\n' >"$root/etc/group"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"

copy_libraries() { # copy_libraries FILE, with the loader
  local library
  # A static program, or no program at all, has none.
  { ldd "$1" 2>/dev/null || true; } | sed -n 's/^[^/]*\(\/[^ ]*\) (0x.*/\1/p' | while read -r library; do
    [ -e "$root$library" ] || install -D "$(realpath "$library")" "$root$library"
  done
}

for entry in "$@"; do
  path=${entry%%=*} place=${entry#*=}
  mkdir -p "$(dirname "$root$place")"
  cp -RTH --preserve=mode "$path" "$root$place"
  find -L "$root$place" -type f \( -perm -100 -o -name '*.so*' \) -print | while read -r file; do
    copy_libraries "$file"
  done
done
