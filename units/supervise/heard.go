package supervise

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/gate/exit"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// slowVerdict is the failure of an engine that runs and did not become ready.
func slowVerdict(status int, heard exit.Heard, p pool.Pool, logs string) *registry.Failure {
	message := fmt.Sprintf("the load made no progress for %s: no log line, no CPU time and no input",
		p.Health.StartTimeout.Round(time.Millisecond))
	hint := "Look at the engine's log; raise [health] start_timeout if this engine pauses for longer. "
	if status == exit.Late {
		message = fmt.Sprintf("the engine was not ready within %s ([health] start_deadline)",
			p.Health.StartDeadline.Round(time.Millisecond))
		hint = "Look at the engine's log; raise [health] start_deadline if this engine needs longer. "
	}
	if text, why := heardWords(heard, p); text != "" {
		message, hint = message+"; "+text, why+" "
	}
	return registry.Fail(registry.CodeEngineStartTimeout, message, hint+logs)
}

// whereToListen is the hint for an engine that listens on other addresses or sockets alone. These
// may be for its own processes, as those of PyTorch, while it loads.
const whereToListen = "Have it listen on 127.0.0.1 and its port, or without a network on the unix socket that it is " +
	"given: HOST, PORT and SOCKET are in the environment of engine command, and a start script must pass its " +
	"arguments on (\"$@\"). " +
	`For an engine that serves on a port alone, set [sandbox] network = "loopback". If what it listens on is for its own ` +
	"processes and it still loads, raise [health] start_timeout."

// heardWords says what the gate heard of an engine that did not become ready, and what to do.
func heardWords(heard exit.Heard, p pool.Pool) (text, hint string) {
	path := p.Health.Path
	if a, ok := engine.For(p.Engine); ok {
		path = cmp.Or(path, a.HealthPath())
	}
	const otherProbe = `or set [health] probe = "tcp", which is satisfied with a connection.`
	switch heard {
	case exit.NotFound:
		return "status 404 at " + path,
			"Is the path of its health endpoint another one? Set [health] path, " + otherProbe
	case exit.Unauthorized:
		return "status 401 or 403 at " + path,
			"It wants a key for its health endpoint: give the key by api_key_file, set [health] path to an endpoint " +
				"that needs none, " + otherProbe
	case exit.Redirect:
		return "it answers with a redirect at " + path,
			"Redirects are not followed: set [health] path to the path that it redirects to."
	case exit.OtherStatus:
		return "it answers a GET of " + path + " with another status than expected",
			"Set [health] path to an endpoint that answers a GET with status 200, " + otherProbe
	case exit.OtherBody:
		return "it answers " + path + " with a body that does not match [health] body", "Correct [health] body."
	case exit.TLS:
		return "its port speaks TLS",
			"Engines are asked on the loopback without TLS: take the options for its certificate out of args, " +
				otherProbe
	case exit.NotHTTP:
		return "what listens on its port does not answer in the protocol of the probe",
			`Set [health] probe to "grpc" or "tcp" if the engine does not serve HTTP.`
	case exit.Mute:
		return "it accepts connections and does not answer",
			"It may hang, or work on something else before it answers."
	case exit.Unfinished:
		return "its answer at " + path + " has the expected status and no proper end",
			"Set [health] path to an endpoint whose answer ends, which a stream of events does not, " + otherProbe
	case exit.Elsewhere:
		return "it does not listen at the address or socket that it was given", whereToListen
	}
	return "", ""
}

// gateHeard returns what the gate heard last, from its lines in a run's log; "" for nothing.
func gateHeard(line string) string {
	if _, text, found := strings.Cut(line, exit.HeardSeparator); found && strings.HasPrefix(line, exit.LogPrefix) {
		return text
	}
	return ""
}
