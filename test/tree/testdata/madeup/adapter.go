package engine

import (
	"errors"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/relax"
)

// MadeUp is an engine that does not exist: the whole of what it takes to add one.
const MadeUp = "madeup"

type madeUp struct{}

var _ Adapter = madeUp{}

func (madeUp) Kind() string                { return MadeUp }
func (madeUp) Doc() string                 { return "an engine that does not exist" }
func (madeUp) DefaultBinary() string       { return "madeup-server" }
func (madeUp) VersionArgs(string) []string { return nil }
func (madeUp) ParseVersion([]byte) string  { return "" }
func (madeUp) Weights() Weights            { return Safetensors }

func (madeUp) Given(args []string) Given        { return Given{Args: args} }
func (madeUp) Check(p pool.Pool) []pool.Refusal { return append(needModel(p), noTensorSplit(p)...) }

func (madeUp) Files(p pool.Pool) []File {
	return flagSyntax{}.files(p, []fileFlag{{Spellings: []string{"--rules"}}})
}

func (madeUp) APIKey() APIKey { return APIKey{Variable: "MADEUP_KEY", Others: []string{"MADEUP_KEY"}} }

func (madeUp) Foreign() Foreign { return Foreign{Programs: []string{"madeup-server"}} }

func (madeUp) Command(p pool.Pool, at Instance) Command {
	return Command{Args: append([]string{"--load", at.Model}, p.Args...), Env: map[string]string{"MADEUP": "1"}}
}

func (madeUp) Relax(Instance) []Relaxation {
	return []Relaxation{{relax.JIT, "it compiles what it makes up at run time"}}
}

// UnixSocket: it listens on ports only.
func (madeUp) UnixSocket(pool.Pool, string) UnixSocket { return SocketNever }

func (madeUp) HealthPath() string                   { return "/made/up" }
func (madeUp) HealthStatus() int                    { return 204 }
func (madeUp) SlotsPath() string                    { return "" }
func (madeUp) Slots([]byte) (int, error)            { return 0, errNotReported }
func (madeUp) BusyPath() string                     { return "" }
func (madeUp) Busy([]byte) (int, error)             { return 0, errNotReported }
func (madeUp) QueuePath() string                    { return "" }
func (madeUp) Queue([]byte) (int, error)            { return 0, errNotReported }
func (madeUp) Workloads(pool.Pool) []string         { return nil }
func (madeUp) GeneratePath() string                 { return "" }
func (madeUp) GenerateBody(pool.Pool) []byte        { return nil }
func (madeUp) Generated([]byte) error               { return errors.New("it generates nothing") }
func (madeUp) ProgressPath() string                 { return "" }
func (madeUp) Progress([]byte) (string, error)      { return "", errNotReported }
func (madeUp) Claim(pool.Pool, string) Claim        { return Claim{Share: 0.5, Firm: true, Flag: "--share"} }
func (madeUp) Run(pool.Pool, Instance) (Run, error) { return Run{}, errNoGGUF }
func (madeUp) SplitsByShare() bool                  { return false }
func (madeUp) CacheTypes() []string                 { return nil }
func (madeUp) CacheArgs(string) []string            { return nil }

func (madeUp) Fallbacks() []classify.Fallback {
	return []classify.Fallback{fallback(`making it up on the CPU`, "it makes up on the CPU")}
}

func (madeUp) StopTimeout(pool.Pool) time.Duration { return 77 * time.Second }
func (madeUp) CountsIdle() bool                    { return true }
