//go:build machine

package systemd

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/godbus/dbus/v5"
)

// unprivileged is the user and group 65534 of Debian (base-passwd).
const unprivileged = 65534

// TestForgerChild is not a test of its own: runForger runs it.
func TestForgerChild(t *testing.T) {
	receivers, ok := os.LookupEnv("FORGE_TO")
	if !ok {
		t.Skip("only as a child of TestMachineForgedSignalsAreIgnored")
	}
	if os.Getuid() != unprivileged {
		t.Fatalf("the forger runs as %d", os.Getuid())
	}
	job, unit := dbus.ObjectPath(os.Getenv("FORGE_JOB")), os.Getenv("FORGE_UNIT")
	if err := forge(strings.Split(receivers, ","), job, unit); err != nil {
		t.Fatal(err)
	}
}

func runForger(t *testing.T, receivers []string, job dbus.ObjectPath, unit string) {
	t.Helper()
	// The test binary may be in a directory that this user cannot read.
	binary := t.TempDir() + "/forger"
	run(t, "cp", os.Args[0], binary)
	run(t, "chmod", "-R", "a+rx", t.TempDir(), binary)
	run(t, "sh", "-c", "d="+binary+"; while d=$(dirname $d); [ $d != / ]; do chmod a+x $d; done")
	cmd := exec.Command(binary, "-test.run", "^TestForgerChild$")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "FORGE_TO="+strings.Join(receivers, ","), "FORGE_JOB="+string(job), "FORGE_UNIT="+
		unit)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: unprivileged, Gid: unprivileged}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("forger: %v\n%s", err, out)
	}
}

// emit sends a signal, to all that match it or straight to one receiver.
func emit(conn *dbus.Conn, to string, path dbus.ObjectPath, name string, body []any) error {
	dot := strings.LastIndex(name, ".")
	msg := &dbus.Message{Type: dbus.TypeSignal, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldInterface: dbus.MakeVariant(name[:dot]),
		dbus.FieldMember:    dbus.MakeVariant(name[dot+1:]),
		dbus.FieldPath:      dbus.MakeVariant(path),
		dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(body...)),
	}}
	if to != "" {
		msg.Headers[dbus.FieldDestination] = dbus.MakeVariant(to)
	}
	return conn.Send(msg, nil).Err
}
