# Burdens the disk under a folder for some seconds, in the container of a component: `slow` makes synced writes next to those of the component,
# `full` occupies this many KiB.
#
#   sh -c SCRIPT disk slow|full FOLDER SECONDS KIB
#
# Its file has no name, so the kernel frees the space when this ends, however it ends. It ends after SECONDS; or earlier, when its input ends,
# because its caller has gone. Each line of output is one batch of writes, or says that the space is occupied.
set -eu
how=$1 folder=$2 seconds=$3 kib=$4
file=$folder/.pingpipeline-drill-$$
exec 3>"$file"
rm "$file"
writers=
trap 'kill $writers 2>/dev/null || true' EXIT
trap 'exit 1' HUP INT TERM
case $how in
slow)
  for _ in 1 2 3 4; do
    timeout "$seconds" sh -c 'while dd if=/dev/zero of=/proc/self/fd/3 bs=8k count=32 conv=notrunc oflag=dsync 2>/dev/null; do echo 32; done' &
    writers="$writers $!"
  done
  ;;
full)
  # Not every file system can allocate without writing. When the disk is full, this has succeeded.
  fallocate -l "${kib}KiB" /proc/self/fd/3 2>/dev/null || head -c "${kib}K" /dev/zero >&3 2>/dev/null || true
  echo full
  ;;
esac
timeout "$seconds" cat >/dev/null 3>&- || true
