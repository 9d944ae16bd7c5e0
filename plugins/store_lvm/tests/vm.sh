#!/bin/bash
# vm.sh 'command': runs the command as root in a User-Mode-Linux guest whose root is this host's / (hostfs), with the
# device mapper, and with /dev/ubda (512 MiB) as a spare disk. Prints its output, and ends with its exit code; 125: the
# guest did not run.
set -u
job=$(mktemp -d "${TMPDIR:-/tmp}/i2vm.XXXXXX"); trap 'rm -rf "$job"' EXIT
printf '%s\n' "$1" > "$job/cmd"; pwd > "$job/cwd"; export -p > "$job/env"
truncate -s 512M "$job/disk"
here=$(dirname "$(readlink -f "$0")")
TMPDIR=/dev/shm timeout -k 5 "${I2_VM_TIMEOUT:-1500}" linux.uml mem=512M ubda="$job/disk" rootfstype=hostfs rootflags=/ \
  rw init="$here/vm_init.sh" I2VM_JOB="$job" con=null con0=null,fd:1 quiet panic=1 </dev/null >"$job/console" 2>&1
[ -f "$job/out" ] && cat "$job/out"
[ -f "$job/rc" ] && exit "$(cat "$job/rc")"
cat "$job/console" >&2; exit 125
