package engine

import (
	"strconv"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

// layerLogging is implemented by adapters whose engine logs how many layers are on its GPUs only
// when it is asked to log more than it does by itself.
type layerLogging interface {
	// layerLog returns the arguments for that; nil where the version logs it anyway, or where the
	// arguments would have something secret logged.
	layerLog(p pool.Pool, version string) []string
}

// LayerLogArgs returns the arguments by which an engine with GPUs logs how many layers of its model
// are on them. It returns nil where they are not needed, and where the pool sets its own.
func LayerLogArgs(p pool.Pool, version string, gpus int) []string {
	a, known := For(p.Engine)
	l, logs := a.(layerLogging)
	if !known || !logs || gpus == 0 {
		return nil
	}
	return l.layerLog(p, version)
}

// llamaTraceBuild is the oldest build that was looked at in which the lines of the model loader
// need the verbosity 4, "trace (more info)", and are not logged by default (common/log.cpp). Its
// other lines are few: five for a completion, none for the paths that probes ask.
const llamaTraceBuild = 9254

// layerLog: with a key, verbosity 4 would also log the last characters of it
// (tools/server/server-http.cpp).
func (llamaCpp) layerLog(p pool.Pool, version string) []string {
	build, err := strconv.Atoi(version)
	f := llamaCpp{}.flags(p)
	_, own := f.value("LLAMA_ARG_LOG_VERBOSITY", "-lv", "--verbosity", "--log-verbosity")
	own = own || f.given("", "-v", "--verbose", "--log-verbose", "--log-disable")
	keyed := p.APIKeyFile != "" || f.given("LLAMA_API_KEY", "--api-key", "--api-key-file") ||
		f.given("LLAMA_ARG_API_KEY_FILE")
	if own || keyed || !(err == nil && build >= llamaTraceBuild || llamaRelease().MatchString(version)) {
		return nil
	}
	return []string{"--verbosity", "4"}
}
