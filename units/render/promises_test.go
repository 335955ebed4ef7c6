package render_test

import (
	"os"
	"strings"
	"testing"
)

// The rows of "What it cannot do" in docs/sandbox.md, by their first cells. TestMachinePromises has
// attacks for each.
const (
	rowUser      = "be, or become, a user of the host"
	rowNeighbour = "signal another engine, be taken for it, or read what it wrote"
	rowHomes     = "see `/home`, `/root`, `/srv`, `/mnt`, `/media`"
	rowModels    = "see other models beside its own in `/data/…`, `/opt/…`, `/var/lib/…`"
	rowManager   = "see the manager's configuration and state"
	rowSockets   = "see another unit's environment or command line; reach PID 1, the message bus, a resolver, a " +
		"container " +
		"engine or any other socket of the host but the journal's"
	rowWrite     = "write anywhere else"
	rowShm       = "use the host's shared memory, or fill it"
	rowTemporary = "fill the host's disk with temporary files"
	rowProcesses = "see other processes, the machine's figures in `/proc`, or control groups"
	rowNetwork   = "send a prompt or a weight over the network, or fetch code"
	rowLoopback  = "connect to another engine, the API, or any other service of the host, abstract unix sockets " +
		"included " +
		"(without a network)"
	rowResolver = "have a local resolver (127.0.0.53, nscd, avahi) ask a name server for it"
	rowHardware = "touch hardware"
	rowKernel   = "use the usual roads to kernel bugs"
	rowCode     = "execute memory that it wrote"
	rowStarve   = "starve the host"
	rowTraces   = "leave something behind"
)

// promisedRows are those for which there are attacks, in the page's order.
var promisedRows = []string{rowUser, rowNeighbour, rowHomes, rowModels, rowManager, rowSockets, rowWrite, rowShm,
	rowTemporary, rowProcesses, rowNetwork, rowLoopback, rowResolver, rowHardware, rowKernel, rowCode, rowStarve, rowTraces}

// TestPromisedRows: a row that is added to the page needs an attack.
func TestPromisedRows(t *testing.T) {
	page, err := os.ReadFile("../../docs/sandbox.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## What it cannot do\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var rows []string
	for line := range strings.Lines(section) {
		if cells := strings.Split(line, " | "); strings.HasPrefix(line, "| ") && len(cells) == 2 {
			rows = append(rows, strings.TrimPrefix(cells[0], "| "))
		}
	}
	if len(rows) < 3 {
		t.Fatalf("no table in the section: %q", rows)
	}
	rows = rows[2:] // the head, and the line below it
	for i := range max(len(rows), len(promisedRows)) {
		switch {
		case i >= len(rows):
			t.Errorf("docs/sandbox.md has no row %q", promisedRows[i])
		case i >= len(promisedRows) || rows[i] != promisedRows[i]:
			t.Errorf("row %d of docs/sandbox.md has no attack in its place: %q", i+1, rows[i])
		}
	}
}
