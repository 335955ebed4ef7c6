package engine

import (
	"slices"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

// serverTools let a request have programs run, or other servers asked, by the tools of vLLM and
// SGLang ("demo": a browser, and a Python interpreter in a container).
var serverTools = []managedFlag{{Spellings: []string{"--tool-server"}}}

// agentTools are the flags by which requests run programs, and how each engine reads them.
var agentTools = map[string]struct {
	syntax flagSyntax
	flags  []managedFlag
}{
	LlamaCpp: {llamaSyntax, llamaTools},
	VLLM:     {vllmSyntax, serverTools},
	SGLang:   {sglangSyntax, serverTools},
}

// AgentTools are the flags and variables of a pool by which any caller of its engine may run
// programs in the unit, or have it connect to other services; nil: there are none.
func AgentTools(p pool.Pool) []string {
	var found []string
	tools := agentTools[p.Engine]
	for _, m := range tools.flags {
		for _, arg := range p.Args {
			name := tools.syntax.means(tools.syntax.name(arg), m.Spellings...)
			if name != "" && !slices.Contains(found, name) {
				found = append(found, name)
			}
		}
		for _, name := range m.Variables {
			if v, set := p.Variables()[name]; set && !isFalse(v) {
				found = append(found, name)
			}
		}
	}
	return found
}
