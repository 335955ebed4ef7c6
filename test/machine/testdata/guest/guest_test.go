// Package guest holds the tests that the self tests of package machine run inside of a machine.
package guest

import (
	"os"
	"testing"
)

func TestPass(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Error("not root")
	}
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		t.Error("no systemd:", err)
	}
	t.Log("greetings from the guest")
}

func TestFail(t *testing.T) { t.Error("this one fails, as it must") }

func TestSkip(t *testing.T) { t.Skip("nothing to see") }
