#!/usr/bin/env bash
# Creates the root folder of an image: the given files and folders, the shared libraries that they need, and what any program may
# need (users, name resolution, certificate authorities).
#
#   rootfs.sh ROOT PATH[=TARGET]...   copies each PATH to TARGET below ROOT; by default to the same path
#
# For programs of another architecture, SYSROOT is the folder with its libraries, and READELF the program that reads them.
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
  needed "$1" | while read -r library; do
    [ -e "$root$library" ] || install -D "$(realpath "${SYSROOT:-}$library")" "$root$library"
  done
}

# Prints nothing for static programs and for files that are not programs.
needed() { # needed FILE
  if [ -n "${SYSROOT:-}" ]; then
    needed_of_other_architecture "$1" | sort -u
  else
    { ldd "$1" 2>/dev/null || true; } | sed -n 's/^[^/]*\(\/[^ ]*\) (0x.*/\1/p'
  fi
}

# What the loader would do, which cannot run here: looks up the names of libraries in Debian's folders, and what those need.
needed_of_other_architecture() { # needed_of_other_architecture FILE
  local name library
  "$READELF" --wide --program-headers "$1" 2>/dev/null | sed -n 's/.*program interpreter: \(.*\)\]/\1/p'
  for name in $("$READELF" --wide --dynamic "$1" 2>/dev/null | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
    library=$(cd "$SYSROOT" && find lib/*-linux-gnu usr/lib/*-linux-gnu -maxdepth 1 -name "$name" -printf '/%p\n' -quit)
    [ -n "$library" ] || { echo "rootfs.sh: $SYSROOT has no $name, which $1 needs" >&2; return 1; }
    echo "$library"
    needed_of_other_architecture "$SYSROOT$library"
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
