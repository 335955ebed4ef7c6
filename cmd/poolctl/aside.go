package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/handoff"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Engines outlive the manager. Where it does not answer, list and status show what PID 1 says of
// the engines' units, and the hand-off files of those that were ready when it last wrote them.

// handoffDir has the hand-off files, and handoffLimit bounds one of them in bytes.
const (
	handoffDir   = "/run/pool-managerd/engines"
	handoffLimit = 1 << 20
)

// asideTimeout bounds the question to PID 1.
const asideTimeout = 2 * time.Second

// seen is one engine as it is seen without the manager. What is not known is null.
type seen struct {
	Pool     string        `json:"pool_id"`
	Replica  string        `json:"id"`
	Unit     string        `json:"unit"`
	Active   string        `json:"active_state"` // PID 1's
	Sub      string        `json:"sub_state"`
	SinceMS  *int64        `json:"since_ms"`
	PID      *int          `json:"pid"`
	Restarts int           `json:"restart_count"` // by PID 1
	Served   bool          `json:"served"`        // it was ready when the manager last wrote
	File     *handoff.File `json:"handoff"`
}

// sight is the answer in place of the manager's.
type sight struct {
	Manager string `json:"manager"` // why it does not answer
	From    string `json:"from"`
	Engines []seen `json:"engines"`
}

const seenFrom = "PID 1 and the hand-off files"

// aside adds to an unreachable manager's error what is known without it; nothing where the address
// may be another host's, or where the manager runs and this user may not ask it.
func (a *app) aside(ctx context.Context, err error, keep func(id string) bool,
	print func(io.Writer, []seen) error) (frame, error) {
	if !isGone(err) || errors.Is(err, fs.ErrPermission) || a.o.admin == "" || ctx.Err() != nil {
		return frame{}, err
	}
	engines := a.enginesOfPID1(ctx)
	engines = slices.DeleteFunc(engines, func(s seen) bool { return !keep(s.Pool) })
	if len(engines) == 0 {
		return frame{}, err
	}
	raw, encodeErr := wire.Encode(sight{clean(err.Error()), seenFrom, engines})
	if encodeErr != nil {
		return frame{}, err
	}
	f, frameErr := a.frame(raw, engines, func(w io.Writer) error { return print(w, engines) })
	if frameErr != nil {
		return frame{}, err
	}
	return f, err
}

// instead adds to the error of a manager that does not answer what shows the same without it.
func (a *app) instead(err error, what string) error {
	var e *exitError
	if a.o.admin != "" && isGone(err) && errors.As(err, &e) && !errors.Is(err, fs.ErrPermission) {
		e.hint += "\n" + what
	}
	return err
}

// enginesOfPID1 asks PID 1 for the units of engines, and reads their hand-off files.
func (a *app) enginesOfPID1(ctx context.Context) []seen {
	ctx, cancel := context.WithTimeout(ctx, asideTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, a.systemctl, "show", "--no-pager", "--timestamp=unix",
		"--property=Id,LoadState,ActiveState,SubState,MainPID,NRestarts,StateChangeTimestamp", "--",
		pool.UnitPattern).Output()
	if err != nil {
		return nil
	}
	var engines []seen
	for block := range strings.SplitSeq(string(out), "\n\n") {
		if s, ok := seenUnit(block); ok {
			s.File = a.handoffOf(s.Pool, s.Replica)
			if s.Served = s.File != nil && s.Active == "active" && equal(s.PID, s.File.PID); !s.Served {
				s.File = nil // of an earlier run
			}
			engines = append(engines, s)
		}
	}
	slices.SortFunc(engines, func(x, y seen) int { return strings.Compare(x.Unit, y.Unit) })
	return engines
}

// seenUnit reads the properties of one unit.
func seenUnit(block string) (s seen, ok bool) {
	values := make(map[string]string)
	lines := bufio.NewScanner(strings.NewReader(block))
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), "=")
		values[key] = value
	}
	r, ok := pool.ParseUnit(values["Id"])
	if !ok || values["LoadState"] == "not-found" {
		return s, false
	}
	s = seen{Pool: r.Pool, Replica: r.Stable(), Unit: values["Id"],
		Active: values["ActiveState"], Sub: values["SubState"]}
	if pid, err := strconv.Atoi(values["MainPID"]); err == nil && pid > 0 {
		s.PID = &pid
	}
	s.Restarts, _ = strconv.Atoi(values["NRestarts"]) // 0 where PID 1 does not say
	if at, err := strconv.ParseInt(strings.TrimPrefix(values["StateChangeTimestamp"], "@"), 10, 64); err == nil {
		ms := at * 1000
		s.SinceMS = &ms
	}
	return s, true
}

// handoffOf reads a replica's hand-off file; nil where there is none that can be read.
func (a *app) handoffOf(id, replica string) *handoff.File {
	f, err := os.Open(filepath.Join(a.root, handoffDir, id+"."+replica+".json"))
	if err != nil {
		return nil
	}
	defer f.Close()
	var file handoff.File
	if json.NewDecoder(io.LimitReader(f, handoffLimit)).Decode(&file) != nil {
		return nil
	}
	return &file
}

// printSeen prints the list without the manager.
func (a *app) printSeen(w io.Writer, engines []seen) error {
	if a.o.output == formatName {
		last := ""
		for _, s := range engines {
			if s.Pool == last {
				continue
			}
			last = s.Pool
			if _, err := fmt.Fprintln(w, clean(s.Pool)); err != nil {
				return err
			}
		}
		return nil
	}
	t := &table{}
	t.row("POOL", "REPLICA", "UNIT", "SINCE", "PID", "RESTARTS", "SERVED", "ENDPOINT", "MODEL")
	for _, s := range engines {
		endpoint, model := "", ""
		if s.File != nil {
			endpoint, model = strings.TrimPrefix(s.File.URL, "http://"), base(&s.File.ModelID)
		}
		t.row(s.Pool, s.Replica, unitState(s), ago(a.now(), s.SinceMS), number(s.PID), strconv.Itoa(s.Restarts),
			yesNo(s.Served), endpoint, model)
	}
	if err := t.print(w); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, "\npool-managerd does not answer: this is from "+seenFrom+".\n"+
		"SERVED is what the manager last wrote. Whether the engines are healthy now is not known.")
	return err
}

// printSeenPool prints the engines of one pool without the manager.
func (a *app) printSeenPool(w io.Writer, engines []seen) error {
	for i, s := range engines {
		if i > 0 {
			if _, err := fmt.Fprintln(w); err != nil {
				return err
			}
		}
		t := &table{}
		t.row("Pool:", s.Pool)
		t.row("State:", "not known: pool-managerd does not answer, this is from "+seenFrom)
		t.row("Replica:", s.Replica)
		t.row("Unit:", s.Unit+", "+unitState(s))
		t.row("Since:", orDash(ago(a.now(), s.SinceMS)))
		t.row("PID:", number(s.PID))
		t.row("Restarts:", strconv.Itoa(s.Restarts)+" by PID 1")
		t.row("Served:", yesNo(s.Served)+", when the manager last wrote it")
		if f := s.File; f != nil {
			t.row("Endpoint:", f.URL)
			t.row("Engine:", strings.TrimSpace(f.Engine+" "+text(f.EngineVersion)))
			t.row("Model:", f.ModelID)
			t.row("Slots:", strconv.Itoa(f.SlotsTotal))
		}
		t.row("Log:", "poolctl logs "+s.Pool)
		if err := t.print(w); err != nil {
			return err
		}
	}
	return nil
}

func unitState(s seen) string { return s.Active + " (" + s.Sub + ")" }

func equal(a, b *int) bool { return a != nil && b != nil && *a == *b }

func number(n *int) string {
	if n == nil {
		return ""
	}
	return strconv.Itoa(*n)
}
