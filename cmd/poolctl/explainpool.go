package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/safe"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// step is one on the way from a pool's file to ready.
type step int

const (
	stepFile step = iota
	stepPolicy
	stepWanted
	stepModel
	stepEngine
	stepDevices
	stepMemory
	stepProcess
	stepLoad
	stepProbe
	stepReady
	steps
)

// stepNames are as people read them.
func stepNames() [steps]string {
	return [steps]string{"pool file", "policy", "wanted", "model", "engine", "devices", "memory", "process",
		"load", "probe",
		"ready"}
}

// Marks of a step.
const (
	markOK      = "ok"
	markNow     = "now"
	markNo      = "NO"
	markAhead   = "-"
	markUnknown = "?"
)

// stand is where a replica is on its way.
type stand struct {
	at    step
	mark  string
	known step // the steps before this one hold; those between it and at are not known
}

// standOfState is where a replica of a state stands, unless its error says more.
func standOfState(s registry.State) (stand, bool) {
	table := map[registry.State]stand{
		registry.StateReady:     {stepReady, markOK, stepReady},
		registry.StateProbing:   {stepProbe, markNow, stepProbe},
		registry.StateStarting:  {stepProcess, markNow, stepMemory},
		registry.StatePreparing: {stepEngine, markNow, stepEngine},
		registry.StateStaging:   {stepModel, markNow, stepModel},
		registry.StateUnhealthy: {stepProbe, markNo, stepProbe},
		registry.StateBackoff:   {stepProcess, markNo, stepMemory},
		registry.StateWaiting:   {stepMemory, markNo, stepWanted},
		registry.StateDraining:  {stepWanted, markNo, stepWanted},
		registry.StateStopping:  {stepWanted, markNo, stepPolicy},
		registry.StateFailed:    {stepProcess, markNo, stepModel},
		registry.StateRefused:   {stepPolicy, markNo, stepPolicy},
		registry.StateInvalid:   {stepFile, markNo, stepFile},
		registry.StateStopped:   {stepWanted, markNo, stepWanted},
	}
	at, ok := table[s]
	return at, ok
}

// standOfCode is where a replica stands whose last error has a code; ok is false for codes of
// requests and of what is no step.
func standOfCode(c registry.Code) (stand, bool) {
	table := map[registry.Code]stand{
		registry.CodeConfigInvalid:      {stepFile, markNo, stepFile},
		registry.CodePolicyDenied:       {stepPolicy, markNo, stepPolicy},
		registry.CodeModelNotFound:      {stepModel, markNo, stepModel},
		registry.CodeDigestMismatch:     {stepModel, markNo, stepModel},
		registry.CodeProvisionFailed:    {stepEngine, markNo, stepModel}, // or the model is none
		registry.CodeDeviceMaskInvalid:  {stepDevices, markNo, stepModel},
		registry.CodeGPUUnavailable:     {stepDevices, markNo, stepModel},
		registry.CodeInsufficientVRAM:   {stepMemory, markNo, stepMemory},
		registry.CodeInsufficientRAM:    {stepMemory, markNo, stepMemory},
		registry.CodeStateTooLarge:      {stepProcess, markNo, stepModel},
		registry.CodeUnitFileMissing:    {stepProcess, markNo, stepModel},
		registry.CodePortInUse:          {stepProcess, markNo, stepMemory},
		registry.CodeEngineStartFailed:  {stepLoad, markNo, stepMemory},
		registry.CodeEngineStartTimeout: {stepLoad, markNo, stepMemory},
		registry.CodeEngineCrashed:      {stepProcess, markNo, stepMemory},
		registry.CodeEngineExited:       {stepProcess, markNo, stepMemory},
		registry.CodeEngineOOM:          {stepProcess, markNo, stepMemory},
		registry.CodeCUDAOOM:            {stepProcess, markNo, stepMemory},
		registry.CodeCUDAError:          {stepProcess, markNo, stepMemory},
		registry.CodeDriverError:        {stepProcess, markNo, stepDevices},
		registry.CodeBreakerOpen:        {stepProcess, markNo, stepMemory},
		registry.CodeHealthFailed:       {stepProbe, markNo, stepProbe},
	}
	at, ok := table[c]
	return at, ok
}

// erring are the states in which the last error is why the replica stands where it does.
func erring(s registry.State) bool {
	switch s {
	case registry.StateUnhealthy, registry.StateBackoff, registry.StateWaiting, registry.StateFailed:
		return true
	}
	return false
}

// failing are those and the states that an error alone leads to.
func failing(s registry.State) bool {
	return erring(s) || s == registry.StateInvalid || s == registry.StateRefused
}

func standOf(r wire.Replica, fallback *string) stand {
	state := registry.State(r.State)
	at, known := standOfState(state)
	if !known {
		at = stand{stepReady, markUnknown, stepFile}
	}
	if state == registry.StateStarting && r.PID != nil {
		at = stand{stepLoad, markNow, stepLoad} // its memory was checked before the process began
	}
	lastError := r.LastError
	if lastError == nil {
		lastError = fallback
	}
	if of, ok := standOfCode(registry.Code(code(lastError))); ok && erring(state) {
		return of
	}
	return at
}

// explainedStep is one line of the answer.
type explainedStep struct {
	Step  string `json:"step"`
	Mark  string `json:"mark"`
	Text  string `json:"text,omitempty"`
	Since *int64 `json:"since_ms,omitempty"`
}

type explainedReplica struct {
	ID    string          `json:"id"`
	State string          `json:"state"`
	Steps []explainedStep `json:"steps"`
	Do    string          `json:"what_to_do,omitempty"`
	Log   []string        `json:"log,omitempty"`          // the last lines of the run that failed
	Next  string          `json:"next,omitempty"`         // the command to type
	After string          `json:"after_change,omitempty"` // the command after a change of the pool's file
}

type explained struct {
	ID       string             `json:"id"`
	Ready    bool               `json:"ready"`
	State    string             `json:"state"`
	Replicas []explainedReplica `json:"replicas"`
}

func (a *app) explainPool(ctx context.Context, id string) error {
	c, err := newClient(a.o)
	if err != nil {
		return err
	}
	p, _, err := got(c.GetPool(ctx, id))
	if refused := new(exitError); errors.As(err, &refused) && refused.code == exitNoPool && isCode(id) {
		return a.explainCode(strings.ToUpper(id))
	}
	if err != nil {
		return a.explainAside(ctx, id, withNearest(ctx, c, id, err))
	}
	out := explained{ID: p.ID, Ready: p.Ready, State: p.State}
	replicas := p.Replicas
	if len(replicas) == 0 { // no file that can be read says how many
		replicas = []wire.Replica{{ID: "r0", State: p.State, LastError: p.LastError, Hint: p.Hint}}
	}
	for _, r := range replicas {
		out.Replicas = append(out.Replicas, explainReplica(p, r))
	}
	if a.o.output == formatJSON {
		return a.printJSON(out)
	}
	return a.printExplained(p, out)
}

// explainAside shows what is known of a pool without the manager.
func (a *app) explainAside(ctx context.Context, id string, err error) error {
	return a.show(ctx, false, func(ctx context.Context) (frame, error) {
		return a.aside(ctx, err, func(of string) bool { return of == id }, a.printSeenPool)
	})
}

func explainReplica(p wire.Pool, r wire.Replica) explainedReplica {
	var alone *string
	if len(p.Replicas) <= 1 {
		alone = p.LastError
	}
	at := standOf(r, alone)
	out := explainedReplica{ID: r.ID, State: r.State}
	for s, name := range stepNames() {
		line := explainedStep{Step: name, Mark: markAhead}
		switch here := step(s); {
		case here == at.at:
			line.Mark, line.Text, line.Since = at.mark, why(r, alone), r.SinceMS
			if at.mark == markNow && here == stepModel && p.Staging != nil {
				line.Text = p.Staging.Progress()
			}
		case here < at.known:
			line.Mark, line.Text = markOK, evidence(p, r, here)
		case here < at.at:
			line.Mark = markUnknown
		}
		if line.Mark == markOK {
			line.Text = evidence(p, r, step(s))
		}
		out.Steps = append(out.Steps, line)
	}
	out.Do, out.Next = adviceFor(p, r, alone)
	if trouble := fileTrouble(p); trouble != "" && out.Steps[stepFile].Mark == markOK {
		out.Steps[stepFile].Mark, out.Steps[stepFile].Text = markNo, trouble
		if out.Next = "poolctl check"; !p.Wanted {
			out.Next = "poolctl list" // it goes
		}
		if out.Do == "" {
			out.Do = text(p.Hint)
		}
	}
	if out.Steps[stepFile].Mark == markNo || failing(registry.State(r.State)) {
		out.Log = lastLines(p, r)
		if !preloaded(p) && p.Wanted || p.State == string(registry.StateInvalid) {
			out.After = readAgain
		}
	}
	return out
}

// readAgain is the command by which the manager reads the pools' files again.
const readAgain = "systemctl reload pool-managerd"

// lastLines are those of the run that a replica's error is about.
func lastLines(p wire.Pool, r wire.Replica) []string {
	switch {
	case r.Details != nil:
		return r.Details.Lines
	case len(p.Replicas) <= 1 && p.Details != nil:
		return p.Details.Lines
	}
	return nil
}

// fileTrouble is what is wrong with the file of a pool that goes on by a former version, or whose
// file is gone.
func fileTrouble(p wire.Pool) string {
	switch {
	case registry.Code(code(p.LastError)) == registry.CodeConfigInvalid:
		return *p.LastError + "; the former version goes on"
	case !p.Wanted:
		return "no pool file asks for it"
	}
	return ""
}

// why is the reason for where a replica stands: its error where that is why, else the rule that
// decided its state.
func why(r wire.Replica, fallback *string) string {
	lastError := r.LastError
	if lastError == nil {
		lastError = fallback
	}
	if lastError != nil && failing(registry.State(r.State)) {
		return *lastError
	}
	return r.Reason
}

// evidence is what shows that a step holds; "" where there is nothing to show.
func evidence(p wire.Pool, r wire.Replica, s step) string {
	switch s {
	case stepModel:
		return text(p.ModelID)
	case stepEngine:
		return strings.TrimSpace(p.Engine + " " + text(r.EngineVersion))
	case stepDevices:
		if len(r.DeviceMask) == 0 {
			return "none: it runs on the CPU"
		}
		return strings.Join(r.DeviceMask, ", ")
	case stepProcess:
		if r.PID != nil {
			return fmt.Sprintf("PID %d in %s", *r.PID, r.Unit)
		}
		return r.Unit
	case stepReady:
		if r.SlotsTotal > 0 {
			return fmt.Sprintf("%d free of %d slots, %s", r.SlotsFree, r.SlotsTotal, orDash(text(r.Endpoint)))
		}
		return text(r.Endpoint)
	}
	return ""
}

// adviceFor returns what to do, a sentence, and the command to type next.
func adviceFor(p wire.Pool, r wire.Replica, fallback *string) (do, next string) {
	state := registry.State(r.State)
	if !failing(state) {
		return "", commandOfState(state, p.ID)
	}
	do, of := text(r.Hint), r.LastError
	if of == nil {
		do, of = text(p.Hint), fallback
	}
	if next = commandOfState(state, p.ID); next == "" {
		next = commandOfCode(registry.Code(code(of)), p.ID)
	}
	return do, next
}

func commandOfState(s registry.State, id string) string {
	switch s {
	case registry.StateStaging, registry.StatePreparing, registry.StateProbing, registry.StateStopping:
		return "poolctl status " + id + " --watch"
	case registry.StateStarting:
		return "poolctl logs " + id + " -f"
	case registry.StateDraining, registry.StateStopped:
		return "poolctl resume " + id
	case registry.StateInvalid, registry.StateRefused:
		return "poolctl check"
	}
	return ""
}

func commandOfCode(c registry.Code, id string) string {
	switch c {
	case registry.CodeConfigInvalid, registry.CodePolicyDenied:
		return "poolctl check"
	case registry.CodeInsufficientVRAM:
		return "poolctl devices --processes"
	case registry.CodeInsufficientRAM:
		return "poolctl fit " + id
	case registry.CodeGPUUnavailable, registry.CodeDeviceMaskInvalid, registry.CodeDriverError:
		return "poolctl devices"
	case registry.CodePortInUse:
		return "ss -ltnp"
	case registry.CodeBreakerOpen:
		return "poolctl logs " + id + "; when it is fixed: poolctl reset " + id
	case registry.CodeModelNotFound, registry.CodeDigestMismatch, registry.CodeProvisionFailed,
		registry.CodeStateTooLarge, registry.CodeUnitFileMissing,
		registry.CodeStateNotSaved:
		return "poolctl explain " + string(c)
	}
	return "poolctl logs " + id
}

func (a *app) printExplained(p wire.Pool, e explained) error {
	var b strings.Builder
	for i, r := range e.Replicas {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%s %s: %s\n", e.ID, r.ID, r.State)
		for _, s := range r.Steps {
			line := clean(s.Text)
			if s.Since != nil {
				line = strings.TrimPrefix(line+" (since "+ago(a.now(), s.Since)+")", " ")
			}
			b.WriteString(strings.TrimRight(fmt.Sprintf("  %-3s  %-9s  %s", s.Mark, s.Step, line), " ") + "\n")
		}
		if r.Do != "" {
			fmt.Fprintf(&b, "To do: %s\n", clean(r.Do))
		}
		for i, line := range r.Log {
			fmt.Fprintf(&b, "%-6s %s\n", []string{"Log:", ""}[min(i, 1)], clean(line))
		}
		if r.Next != "" {
			fmt.Fprintf(&b, "Next:  %s\n", r.Next)
		}
		if r.After != "" {
			fmt.Fprintf(&b, "After a change of the pool's file: %s\n", r.After)
		}
	}
	if p.NextRestartMS != nil {
		if left := time.UnixMilli(*p.NextRestartMS).Sub(a.now()); left > 0 {
			fmt.Fprintf(&b, "It is tried again by itself in %s.\n", span(left))
		}
	}
	text := safe.Text(b.String())
	if a.colour {
		text = marksInColour(text)
	}
	_, err := io.WriteString(a.out, text)
	return err
}
