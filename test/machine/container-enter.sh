#!/bin/sh
# Readies the machine's cgroup and goes into the namespaces where the container is launched.
#
# $1 directory of the machine; $2 its cgroup as a directory, "" for the one that this shell is in; $3 the cgroup2 mount;
# the rest is the command to run inside, with the cgroup added.
set -eu
dir=$1 cgroup=$2 cgroup2=$3
shift 3
[ -n "$cgroup" ] || cgroup=$cgroup2$(sed -n 's/^0:://p' /proc/self/cgroup)
echo "$cgroup" >"$dir/cgroup" # for who clears away after us

# The kernel allows no process beside child groups that have controllers: this shell, and unshare that waits in its
# place, move to a leaf.
mkdir "$cgroup/launcher"
echo $$ >"$cgroup/launcher/cgroup.procs"
for controller in $(cat "$cgroup/cgroup.controllers"); do
	echo "+$controller" >"$cgroup/cgroup.subtree_control" 2>/dev/null || :
done
exec unshare --mount --pid --fork --kill-child=KILL --mount-proc -- "$@" "$cgroup"
