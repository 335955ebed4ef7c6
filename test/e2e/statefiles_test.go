//go:build machine

package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// TestDamagedStateFiles damages each file in which the manager keeps its state. The manager starts,
// the engine keeps running, the file is moved aside and reported, and what could be read is in
// force.
func TestDamagedStateFiles(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.pool("a", stub().with("slots = 9").quick())
	h.reload()
	h.wait("a", isReady)
	for _, c := range []struct{ name, file, damage string }{
		{"noise_in_leases", "/run/pool-managerd/leases.db", "dd if=/dev/urandom of=FILE bs=20 count=1 seek=5 conv=notrunc"},
		{"leases_all_noise", "/run/pool-managerd/leases.db", "dd if=/dev/urandom of=FILE bs=4096 count=4"},
		{"leases_empty", "/run/pool-managerd/leases.db", "truncate -s 0 FILE"},
		{"leases_a_directory", "/run/pool-managerd/leases.db", "rm FILE; mkdir FILE"},
		{"leases_of_another_user", "/run/pool-managerd/leases.db", "chown daemon FILE; chmod 600 FILE"},
		{"noise_in_intents", "/var/lib/pool-managerd/intents.db", "dd if=/dev/urandom of=FILE bs=4096 count=14 seek=2 conv=notrunc"},
		{"intents_cut_off", "/var/lib/pool-managerd/intents.db", "truncate -s 6000 FILE"},
		{"noise_in_verdicts", "/var/lib/pool-managerd/verdicts.db", "dd if=/dev/urandom of=FILE bs=4096 count=9 conv=notrunc"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := h.in(t)
			pid := h.get("a").Replicas[0].PID
			h.lease("a", time.Hour)
			damage := strings.ReplaceAll(c.damage, "FILE", c.file)
			h.must("sh", "-c", "systemctl stop "+host.ManagerUnit+" && ("+damage+") 2>&1 && systemctl start "+
				host.ManagerUnit)
			h.wait("a", isReady)
			if now := h.get("a").Replicas[0].PID; now != pid {
				t.Errorf("the engine is process %d, it was %d", now, pid)
			}
			list := h.answer(http.StatusOK, "GET", "/v1/pools", "")
			problems, _ := list["problems"].([]any)
			if len(problems) != 1 || !strings.Contains(h.must("poolctl", "list"), c.file) {
				t.Errorf("problems: %v", problems)
			}
			aside := strings.TrimSpace(h.must("sh", "-c", "echo "+c.file+".damaged-2*"))
			logged := h.must("journalctl", "-u", "pool-managerd", "-p", "err", "-o", "cat")
			if !strings.Contains(logged, c.file+" was damaged and replaced") {
				t.Error("it is not in the log")
			}
			h.answer(http.StatusNoContent, "DELETE", h.lease("a", time.Hour), "")
			h.must("rm", "-r", aside)
			h.reload()
			if list := h.answer(http.StatusOK, "GET", "/v1/pools", ""); len(list["problems"].([]any)) != 0 {
				t.Errorf("once it is removed: %v", list["problems"])
			}
		})
	}
}
