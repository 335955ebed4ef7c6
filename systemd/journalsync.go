package systemd

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"time"
)

// journaldSocket is where journald takes requests of root (varlink).
const journaldSocket = "/run/systemd/journal/io.systemd.journal"

// journalSyncWait bounds a synchronisation: journald may be behind an endless flood. It takes at
// most half of a context's time, for there is something to do after it.
const journalSyncWait = 15 * time.Second

// syncJournal returns when journald has taken what programs wrote before the call. An engine that
// ends after many lines leaves them in the buffer of a socket, which journald reads for seconds
// (seen on 252, 257 and 262 with 60,000 lines). The request is that of journalctl --sync: journald
// handles it after everything that waits.
func syncJournal(ctx context.Context, socket string) error {
	wait := journalSyncWait
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(deadline)/2)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("synchronise the journal: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write([]byte("{\"method\":\"io.systemd.Journal.Synchronize\"}\x00")); err != nil {
		return fmt.Errorf("synchronise the journal: %w", err)
	}
	answer, err := bufio.NewReaderSize(conn, 4096).ReadSlice(0)
	if err != nil {
		return fmt.Errorf("synchronise the journal: %w", err)
	}
	if strings.Contains(string(answer), `"error"`) {
		return fmt.Errorf("synchronise the journal: journald answered %q", answer[:len(answer)-1])
	}
	return nil
}
