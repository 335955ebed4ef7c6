package wire

import (
	"cmp"
	"slices"

	"github.com/pool-managerd/pool-managerd/registry"
)

// APIVersion is the version of this API.
const APIVersion = "v1"

// Version is the answer of GET /v1/version.
type Version struct {
	APIVersion string `json:"api_version"`
	Version    string `json:"version"` // of the daemon
}

// Capabilities is the answer of GET /v1/capabilities.
type Capabilities struct {
	APIVersion string             `json:"api_version"`
	Engines    []EngineCapability `json:"engines"`
}

// EngineCapability has the combined capabilities of the ready pools of one engine and version.
type EngineCapability struct {
	Engine             string   `json:"engine"`
	EngineVersion      *string  `json:"engine_version"`
	CtxMax             *int     `json:"ctx_max"` // the longest context of the pools, tokens; null: not known
	SlotsTotal         int      `json:"slots_total"`
	SupportedWorkloads []string `json:"supported_workloads"`
	Features           []string `json:"features"`
	Quantizations      []string `json:"quantizations"`
	Pools              []string `json:"pools"`
}

// CapabilitiesOf returns the answer of GET /v1/capabilities: the pools that are ready now, by
// engine and version.
func CapabilitiesOf(pools []*registry.Pool) Capabilities {
	out := Capabilities{APIVersion: APIVersion, Engines: []EngineCapability{}}
	at := make(map[[2]string]int)
	for _, p := range pools {
		if !p.Ready {
			continue
		}
		key := [2]string{p.Engine, p.EngineVersion}
		i, found := at[key]
		if !found {
			i = len(out.Engines)
			at[key] = i
			out.Engines = append(out.Engines,
				EngineCapability{Engine: p.Engine, EngineVersion: optional(p.EngineVersion),
					SupportedWorkloads: []string{}, Features: []string{}, Quantizations: []string{},
					Pools: []string{}})
		}
		out.Engines[i].add(p)
	}
	slices.SortFunc(out.Engines, func(a, b EngineCapability) int {
		return cmp.Or(cmp.Compare(a.Engine, b.Engine), cmp.Compare(text(a.EngineVersion), text(b.EngineVersion)))
	})
	return out
}

func (c *EngineCapability) add(p *registry.Pool) {
	c.Pools = append(c.Pools, p.ID)
	c.SlotsTotal += p.SlotsTotal
	if p.Ctx > 0 && (c.CtxMax == nil || *c.CtxMax < p.Ctx) {
		c.CtxMax = &p.Ctx
	}
	c.SupportedWorkloads = union(c.SupportedWorkloads, p.Workloads...)
	c.Features = union(c.Features, p.Features...)
	c.Quantizations = union(c.Quantizations, some(p.Model.Quantization)...)
}

// union adds what is missing, sorted.
func union(to []string, add ...string) []string {
	to = append(to, add...)
	slices.Sort(to)
	return slices.Compact(to)
}

// some is a list of the text, without it if it is empty.
func some(text string) []string {
	if text == "" {
		return []string{}
	}
	return []string{text}
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
