// Package machine builds, boots and drives the machines that the integration tests run in: whole
// Debian systems with a real systemd as PID 1.
//
// A machine has one of two backends. [Container] is systemd-nspawn: it boots in a second or two and
// runs at the speed of the host, but it has only those cgroup controllers that the host delegates,
// and a limit without a controller is ignored silently. [VM] is qemu: slow where there is no KVM,
// with real controllers, a real OOM killer and real BPF. A test that needs one of these declares it
// with [Machine.Require], which fails the test where the machine does not have it and never skips.
//
// [Boot] returns errors and does not depend on testing; [Start] is the adapter for tests. Root file
// systems are built once with mmdebstrap and cached by their recipe (see [Recipe]); each machine
// runs on a private copy that vanishes with it. A machine dies with the process that booted it,
// also when that is killed with SIGKILL.
//
// Everything here needs root on the host and the Debian packages of host-packages.txt. Tests that
// boot a machine carry the build tag "machine", so that `go test ./...` stays quick and needs no
// privileges:
//
//	go test -tags machine ./test/...
//
// The package must not know what is tested in a machine: nothing of pools, engines or
// pool-managerd.
package machine
