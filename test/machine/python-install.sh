#!/bin/sh
# Makes a virtual environment of Python and installs packages into it, in a copy of a machine's root file system that
# goes afterwards. This shell has a mount namespace of its own.
#
# $1 root file system (only read), $2 directory for the environment, $3 where that is in the machine, $4 a script to run
# there afterwards. Requirements come on standard input.
set -eu
umask 022
lower=$1 dir=$2 guest=$3 after=$4

mount -t tmpfs -o mode=0755 pool-machine /mnt
mkdir /mnt/upper /mnt/work /mnt/root "$dir/tmp"
root=/mnt/root
mount -t overlay -o "lowerdir=$lower,upperdir=/mnt/upper,workdir=/mnt/work" overlay "$root"
mkdir -p "$root$guest"
mount --bind "$dir" "$root$guest"
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
# The network, name resolution and certificates are the host's, and so is pip's configuration in the environment.
for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
	[ ! -e "$file" ] || cat "$file" >"$root$file"
done
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp TMPDIR="$guest/tmp" PIP_DISABLE_PIP_VERSION_CHECK=1
chroot "$root" python3 -m venv "$guest"
cat >"$root/requirements.txt"
# pip compiles the modules, too: an engine can write to no directory of its programs.
chroot "$root" "$guest/bin/pip" install --quiet --no-cache-dir --no-deps --only-binary=:all: --requirement /requirements.txt
[ -z "$after" ] || chroot "$root" sh -euc "$after"
rm -r "${dir:?}/tmp"
