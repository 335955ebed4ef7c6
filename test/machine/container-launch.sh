#!/bin/sh
# Runs one container machine until it powers off. This shell is PID 1 of a PID namespace and has a mount namespace of its
# own, so that nothing started or mounted here outlives it. (The container's own PID 1 does outlive systemd-nspawn when that is
# killed with SIGKILL: it has no parent-death signal.)
#
# $1 directory of the machine, $2 root file system below (shared, only read), $3 options for directories of the host and system calls,
# $4 cgroup of the machine as a directory.
set -eu
umask 022
dir=$1 lower=$2 binds=$3 cgroup=$4

# The private copy: an overlay whose upper layer is memory; a plain copy where overlayfs is not to be had.
mkdir "$dir/fs"
mount -t tmpfs -o mode=0755,size=75% pool-machine "$dir/fs"
mkdir "$dir/fs/upper" "$dir/fs/work" "$dir/fs/root"
root=$dir/fs/root
if ! mount -t overlay -o "lowerdir=$lower,upperdir=$dir/fs/upper,workdir=$dir/fs/work" overlay "$root" 2>"$dir/overlay.err"; then
	cp -a --reflink=auto "$lower/." "$root"
fi
if [ -f "$dir/files.tar" ]; then
	tar -x -C "$root" --keep-directory-symlink --numeric-owner -p -f "$dir/files.tar"
	rm "$dir/files.tar"
fi

# One turn per boot: with --keep-unit a reboot ends systemd-nspawn with 133 and leaves the restart to its caller.
# Without the variable, systemd 257 boots on cgroup v1 where the host has that, and 262 refuses to.
boot=0
while :; do
	boot=$((boot + 1))
	mkdir "$cgroup/boot-$boot"
	status=0
	(
		sh -c 'echo $PPID' >"$cgroup/boot-$boot/cgroup.procs"
		export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 NOTIFY_SOCKET="$dir/notify"
		# shellcheck disable=SC2086 # one word each
		exec systemd-nspawn $binds --quiet --settings=no --register=no --keep-unit --boot \
			--directory="$root" --machine="pool-machine-${dir##*/}" --hostname=machine --link-journal=no \
			--private-network --console=pipe --notify-ready=yes --kill-signal=SIGRTMIN+3 \
			--resolv-conf=off --timezone=off </dev/null
	) || status=$?
	[ "$status" -eq 133 ] || exit "$status"
done
