#!/bin/sh
# Turns a fresh minbase root ($1) into one that boots quickly and quietly without a console, udev or network.
# Run by mmdebstrap outside of the root, before it is packed up.
set -eu
root=$1

# A fixed identity: a first boot would ask questions and write one.
echo 7a6d8e0c1f2b4c5d9e3f0a1b2c3d4e5f >"$root/etc/machine-id"
echo machine >"$root/etc/hostname"
printf '127.0.0.1 localhost machine\n::1 localhost ip6-localhost\n' >"$root/etc/hosts"
: >"$root/etc/fstab"
# No name server answers in here: fail at once instead of after a timeout.
rm -f "$root/etc/resolv.conf"
: >"$root/etc/resolv.conf"

# Units that wait for devices which never come, or that do work no test wants. serial-getty alone waits 90 s.
for unit in \
	console-getty.service container-getty@.service getty@.service serial-getty@.service getty-static.service \
	getty.target autovt@.service \
	apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
	systemd-tmpfiles-clean.timer \
	e2scrub_reap.service systemd-firstboot.service systemd-modules-load.service systemd-random-seed.service \
	systemd-machine-id-commit.service systemd-pstore.service systemd-binfmt.service systemd-boot-random-seed.service \
	systemd-hwdb-update.service systemd-rfkill.socket systemd-rfkill.service proc-sys-fs-binfmt_misc.automount \
	systemd-network-generator.service systemd-networkd.service systemd-networkd.socket systemd-networkd-wait-online.service \
	ldconfig.service systemd-journal-catalog-update.service systemd-update-done.service \
	modprobe@.service kmod-static-nodes.service; do
	ln -sfn /dev/null "$root/etc/systemd/system/$unit"
done
ln -sfn /usr/lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"

# The journal outlives a reboot of the machine, and holds a whole stress test.
mkdir -p "$root/var/log/journal" "$root/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=persistent\nSystemMaxUse=256M\nForwardToSyslog=no\nForwardToWall=no\nAudit=no\n' \
	>"$root/etc/systemd/journald.conf.d/machine.conf"
# A test must not wait 90 s for a unit that will not stop when the machine goes down.
mkdir -p "$root/etc/systemd/system.conf.d"
printf '[Manager]\nShowStatus=no\n' >"$root/etc/systemd/system.conf.d/machine.conf"
# PID 1 of a virtual machine until systemd takes over: unpacks what the harness puts in before the first boot. That is a
# tar archive on the disk with the serial number "payload"; the kernel's names of disks are random. The kernel line's
# machine_payload=1 comes as a variable, and says that there is such a disk to wait for.
mkdir -p "$root/usr/lib/pool-machine"
cat >"$root/usr/lib/pool-machine/init" <<'INIT'
#!/bin/sh
if [ "${machine_payload-}" = 1 ]; then
	mount -t sysfs sysfs /sys
	mount -t devtmpfs devtmpfs /dev
	tries=0
	until [ -n "${disk-}" ] || [ "$tries" -ge 500 ]; do
		for dir in /sys/block/nvme*; do
			serial=
			read -r serial <"$dir/device/serial" || :
			[ "$serial" != payload ] || disk=/dev/${dir##*/}
		done
		tries=$((tries + 1))
		[ -n "${disk-}" ] || sleep 0.02
	done
	tar -x -C / --keep-directory-symlink --numeric-owner -p -f "$disk" || echo "machine: the payload is broken"
	umount /sys /dev
fi
unset machine_payload
exec /sbin/init
INIT
chmod 755 "$root/usr/lib/pool-machine/init"

# Logs of the build.
rm -rf "$root"/var/log/*.log "$root/var/log/apt" "$root/var/cache/ldconfig/aux-cache"
# apt in the machine installs local files only.
rm -f "$root/etc/apt/sources.list" "$root"/etc/apt/sources.list.d/*
