package engine

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Program is any other program in a pool file.
const Program = "command"

// command is any program that serves HTTP: the operator writes its arguments, with placeholders.
type command struct{}

var _ Adapter = command{}

func (command) Kind() string { return Program }
func (command) Doc() string {
	return "any program that serves HTTP: `args` may hold `{host}`, `{port}`, `{socket}`, `{model}`, `{ctx}`, " +
		"`{slots}` and `{api_key_file}`"
}
func (command) Weights() Weights            { return Anything }
func (command) DefaultBinary() string       { return "" }
func (command) VersionArgs(string) []string { return nil }
func (command) ParseVersion([]byte) string  { return "" }

// Given leaves the arguments of a program as they are: only it knows which of them it needs. Their
// usual flags for an address are read, so that the port is that of the pool.
func (command) Given(args []string) Given {
	g := flagSyntax{}.given(args, []managedFlag{
		{Spellings: []string{"--host"}, Key: keyHost}, {Spellings: []string{"--port"}, Key: keyPort},
	})
	kept := Given{Host: g.Host, Port: g.Port, Wrong: g.Wrong}
	for i, arg := range args {
		kept.keep(arg, i)
	}
	return kept
}

func (command) Check(p pool.Pool) []pool.Refusal { return noTensorSplit(p) }

// Files: what the arguments of any program mean is unknown; its files are in the key files.
func (command) Files(pool.Pool) []File { return nil }

// APIKey: the program finds the path in API_KEY_FILE, too.
func (command) APIKey() APIKey { return APIKey{File: true, Others: []string{"API_KEY_FILE"}} }

// Command fills {host}, {port}, {socket}, {model}, {ctx}, {slots} and {api_key_file} in the
// arguments; other braces stay as they are, so that JSON needs no escape. A ctx or slots that the
// pool leaves out is 0. The program also finds HOST, PORT and MODEL in its environment, without a
// network SOCKET, and with a key API_KEY_FILE.
func (command) Command(p pool.Pool, at Instance) Command {
	port := strconv.Itoa(at.Port)
	fill := strings.NewReplacer(
		"{host}", at.Host, "{port}", port, "{socket}", at.Socket, "{model}", at.Model,
		"{ctx}", strconv.Itoa(p.Ctx), "{slots}", strconv.Itoa(p.Slots), "{api_key_file}", at.KeyFile,
	)
	args := make([]string, len(p.Args))
	for i, arg := range p.Args {
		args[i] = fill.Replace(arg)
	}
	env := map[string]string{"HOST": at.Host, "PORT": port, "MODEL": at.Model}
	if at.Socket != "" {
		env["SOCKET"] = at.Socket
	}
	if at.KeyFile != "" {
		env["API_KEY_FILE"] = at.KeyFile
	}
	return Command{Args: args, Env: env}
}

// UnixSocket: its operator knows what the program can do.
func (command) UnixSocket(pool.Pool, string) UnixSocket { return SocketUntested }

func (command) HealthPath() string { return "/health" }
func (command) HealthStatus() int  { return http.StatusOK }

func (command) Relax(at Instance) []Relaxation { return cudaRelaxations(at) }

func (command) StopTimeout(pool.Pool) time.Duration { return 30 * time.Second }

func (command) SlotsPath() string         { return "" }
func (command) Slots([]byte) (int, error) { return 0, errNotReported }
func (command) BusyPath() string          { return "" }
func (command) Busy([]byte) (int, error)  { return 0, errNotReported }

func (command) GeneratePath() string            { return "" }
func (command) GenerateBody(pool.Pool) []byte   { return nil }
func (command) Generated(body []byte) error     { return hasAnything(body) }
func (command) ProgressPath() string            { return "" }
func (command) Progress([]byte) (string, error) { return "", errNotReported }

func (command) Claim(pool.Pool, string) Claim        { return Claim{} }
func (command) Run(pool.Pool, Instance) (Run, error) { return Run{}, errNoGGUF }
func (command) SplitsByShare() bool                  { return false }
func (command) CacheTypes() []string                 { return nil }
func (command) CacheArgs(string) []string            { return nil }

func (command) CountsIdle() bool { return false }

func (command) QueuePath() string            { return "" }
func (command) Queue([]byte) (int, error)    { return 0, errNotReported }
func (command) Workloads(pool.Pool) []string { return nil }

// Fallbacks are those of all engines: the program may be any of them behind a script.
func (command) Fallbacks() []classify.Fallback { return everyFallback() }
