package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/client"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Who wrote a note.
const (
	byManager = "manager"
	byPID1    = "PID 1"
)

// The bounds of what is read of the journal.
const (
	pastTimeout = 20 * time.Second
	pastEntries = "20000"
	pastLine    = 1 << 20
)

// Messages of PID 1 about a unit (systemd/sd-messages.h).
const (
	messageProcessExit = "98e322203f7a4ed290d09fe03c09fe15"
	messageStarted     = "39f53479d3a045ac8e11786248231fbf"
	messageStopped     = "9d1aaa27d60140bd96365438aad20286"
	messageFailed      = "d9b373ed55a64feb8242e02dbe79a49c"
	messageRestart     = "5eb03494b6584870a536b337290809b3"
	messageOOM         = "fe6faa94e7774663a0da52717891d8ef"
)

// journalNotes reads what the manager and PID 1 wrote about a pool's replicas, over all runs of the
// manager. All fields of the matches are the journal's own: see matchesOf.
func (a *app) journalNotes(ctx context.Context, id string) []note {
	ctx, cancel := context.WithTimeout(ctx, pastTimeout)
	defer cancel()
	args := []string{"--no-pager", "--quiet", "--output=json", "--lines=" + pastEntries,
		"--output-fields=MESSAGE,MESSAGE_ID,FROM,TO,REPLICA_ID,LAST_ERROR,HINT,METHOD,STATUS,IDENTITY,UNIT,_PID," +
			"_SYSTEMD_INVOCATION_ID"}
	first := pool.Replica{Pool: id}
	units := []string{first.Unit(), first.Other().Unit()}
	for _, unit := range a.loggedUnits(ctx) {
		if r, ok := pool.ParseUnit(unit); ok && r.Pool == id {
			units = append(units, unit)
		}
	}
	args = append(args, "_SYSTEMD_UNIT="+managerUnit, "POOL_ID="+id, "+", "_PID=1")
	for _, u := range units {
		args = append(args, "UNIT="+u)
	}
	cmd := exec.CommandContext(ctx, a.journalctl, args...)
	out, err := cmd.StdoutPipe()
	if err != nil || cmd.Start() != nil {
		return nil
	}
	var notes []note
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, pastLine)
	for lines.Scan() {
		if n, ok := journalNote(lines.Bytes()); ok {
			notes = append(notes, n)
		}
	}
	_ = out.Close()
	_ = cmd.Wait() // what came is used
	return notes
}

// journalNote reads one line of journalctl --output=json; ok is false for one that says nothing of
// a replica's life.
func journalNote(line []byte) (n note, ok bool) {
	var raw map[string]any
	if json.Unmarshal(line, &raw) != nil {
		return n, false
	}
	at := func(field string) string {
		s, _ := raw[field].(string) // binary and repeated fields are lists; no field read here is one
		return s
	}
	us, err := strconv.ParseInt(at("__REALTIME_TIMESTAMP"), 10, 64)
	if err != nil {
		return n, false
	}
	n = note{At: time.UnixMicro(us), AtMS: us / 1000, Text: at("MESSAGE"), replica: at("REPLICA_ID")}
	if at("_PID") == "1" {
		return pid1Note(n, at)
	}
	n.By, n.run = byManager, at("_SYSTEMD_INVOCATION_ID")
	n.Error, n.Hint = at("LAST_ERROR"), at("HINT")
	switch {
	case at("METHOD") == http.MethodPost || at("METHOD") == http.MethodDelete:
		status, _ := strconv.Atoi(at("STATUS"))
		n.By, n.Error, n.Hint = at("IDENTITY"), "", ""
		n.Text = strings.TrimPrefix(n.Text, n.By+" ")
		return n, status/100 == 2
	case n.replica == "":
		return n, false // of the pool as a whole: its replicas have the same
	case at("TO") == "":
		if subject, text, found := strings.Cut(n.Text, ": "); found && strings.HasSuffix(subject, "/"+n.replica) {
			n.Text = text // without POOL/REPLICA
		}
		return n, n.Error != "" // a failure
	}
	n.of = turnOf(registry.State(at("FROM")), registry.State(at("TO")))
	_, n.reason, _ = strings.Cut(n.Text, ": ") // POOL/REPLICA is before it
	n.Text = stateChange(at("FROM"), at("TO"), n.reason)
	if n.of != turnEnd {
		n.Error, n.Hint = "", "" // the last one is still written with each line
	}
	return n, true
}

// stateChange is a change for people.
func stateChange(from, to, reason string) string {
	if from == "" {
		return fmt.Sprintf("found %s: %s", to, reason)
	}
	return fmt.Sprintf("%s -> %s: %s", from, to, reason)
}

// turnOf is what a change of the state means.
func turnOf(from, to registry.State) turn {
	switch to {
	case registry.StateReady:
		return turnReady
	case registry.StateStarting:
		return turnStart
	case registry.StateBackoff, registry.StateFailed, registry.StateStopped, registry.StateRefused,
		registry.StateInvalid:
		return turnEnd
	}
	if from == registry.StateReady {
		return turnEnd
	}
	return turnNone
}

// pid1Note keeps what PID 1 says of processes and of the unit's end.
func pid1Note(n note, at func(string) string) (note, bool) {
	r, ok := pool.ParseUnit(at("UNIT"))
	if !ok {
		return n, false
	}
	n.By, n.replica = byPID1, r.Name()
	_, text, found := strings.Cut(n.Text, ": ") // the unit's name is before it
	if found {
		n.Text = text
	}
	n.reason = n.Text
	switch at("MESSAGE_ID") {
	case messageProcessExit, messageOOM, messageFailed:
		n.of = turnEnd
	case messageStarted, messageStopped, messageRestart:
	default:
		return n, false
	}
	return n, true
}

// eventNotes are the events of a pool since the manager's start.
func (a *app) eventNotes(ctx context.Context, id string) ([]note, error) {
	c, err := newClient(a.o)
	if err != nil {
		return nil, err
	}
	if _, _, err := got(c.GetPool(ctx, id)); err != nil {
		return nil, withNearest(ctx, c, id, err)
	}
	kept, now := true, false
	stream, err := c.GetEvents(ctx, client.GetEventsParams{Pool: id, Replay: &kept, Follow: &now})
	if err != nil {
		return nil, explain(err)
	}
	defer stream.Close()
	var notes []note
	for {
		next, err := stream.Next()
		if errors.Is(err, io.EOF) {
			return notes, nil
		} else if err != nil {
			return nil, explain(err)
		}
		var e wire.Event
		if json.Unmarshal(next.Data, &e) != nil || e.PoolID == "" {
			continue
		}
		n := note{At: time.UnixMilli(e.AtMS), AtMS: e.AtMS, By: byManager, Text: e.Kind + ": " + e.Cause,
			Error: text(e.LastError), Hint: text(e.Hint), replica: e.ReplicaID}
		switch {
		case e.ReplicaID == "" && e.Kind == string(registry.KindReady):
			continue
		case e.Kind == string(registry.KindReady) && e.Ready != nil && *e.Ready:
			n.of, n.Text = turnReady, "ready: "+e.Cause
		case e.Kind == string(registry.KindReady), e.Kind == string(registry.KindCrash):
			n.of, n.Text, n.reason = turnEnd, "not ready: "+e.Cause, e.Cause
		}
		notes = append(notes, n)
	}
}
