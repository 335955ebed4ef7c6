// Package e2e contains the scenarios that an installed pool-managerd must pass: the Debian package
// in a machine with a real systemd, driven as an administrator drives it. Each test is one promise,
// and reads as its specification.
//
// They carry the build tag "machine" (see package machine for what they need):
//
//	go test -tags machine ./test/e2e
package e2e
