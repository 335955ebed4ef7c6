package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/units/config/strict"
	"github.com/pool-managerd/pool-managerd/units/confine"
	"github.com/pool-managerd/pool-managerd/units/egress"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// silenceDefault is how long a program of the host's own may print no event: one that copies a
// large file and prints nothing meanwhile has to fit.
const silenceDefault = 30 * time.Minute

const programAllowed = "the path of a program, or a table with the key path"

// programType reads one program of the host's own: its path, or a table.
func programType() strict.Type[Provisioning] {
	put := func(p *Provisioning, name string, program egress.Program) {
		if p.Programs == nil {
			p.Programs = make(map[string]egress.Program)
		}
		p.Programs[name] = program
	}
	start := func() egress.Program { return egress.Program{Silence: silenceDefault} }
	table := strict.ToTable("", programAllowed, programKeys(), "Provisioners in the manual", start, put)
	return strict.Type[Provisioning]{Name: "path or table", Allowed: programAllowed,
		Set: func(p *Provisioning, v *strict.Value, at strict.At) {
			if wrong := modelref.OwnScheme(at.Last()); wrong != "" {
				at.SayKey(wrong, "a scheme of the host's own, as nas",
					"References of its models begin with it: nas:NAME.")
				return
			}
			if v.Kind != strict.String {
				table.Set(p, v, at)
				return
			}
			if path, ok := strict.Text(v, at, programAllowed, programPath); ok {
				one := start()
				one.Path = path
				put(p, at.Last(), one)
			}
		}}
}

func programKeys() []strict.Key[egress.Program] {
	return []strict.Key[egress.Program]{
		{Path: "path", Type: strict.ToString("path", "an absolute path", programPath,
			func(p *egress.Program) *string { return &p.Path })},
		{Path: "hosts", Type: strict.ToList("host names", programHost,
			func(p *egress.Program) *[]string { return &p.Hosts })},
		{Path: "files", Type: strict.ToList("absolute paths", programPath,
			func(p *egress.Program) *[]string { return &p.Files })},
		{Path: "credentials_file", Type: strict.ToString("path", "an absolute path", strict.Absolute,
			func(p *egress.Program) *string { return &p.Credentials })},
		{Path: "silence", Type: strict.ToDuration(time.Second, 24*time.Hour,
			func(p *egress.Program) *time.Duration { return &p.Silence })},
	}
}

// unseen are folders that the unit of a download does not share with the host. Its /root can be
// entered by root alone.
var unseen = [...]string{"/root", "/proc", "/sys", "/dev"}

// programPath is the check of a path that is in the properties of a unit.
func programPath(s string) string {
	switch wrong := strict.Absolute(s); {
	case wrong != "":
		return wrong
	case s == "/" || strings.HasSuffix(s, "/") || strings.Contains(s, "//") || strings.Contains(s+"/", "/../") ||
		strings.Contains(s+"/", "/./"):
		return "is not a plain path"
	case confine.Within(s, unseen[:]) != "":
		return "is in a folder of which the unit of a download has its own"
	}
	return confine.Path(s)
}

// programHost is the check of a host that a program connects to.
func programHost(s string) string {
	if strings.HasPrefix(s, "*") {
		return "is no single host: its addresses are asked for before the program runs"
	}
	return hostPattern(s)
}

// programsWhole are the rules of programs of the host's own.
func programsWhole(h *Host, r *strict.Report) {
	for _, name := range slices.Sorted(maps.Keys(h.Provisioning.Programs)) {
		key := "provisioning.programs." + name
		if h.Provisioning.Programs[name].Path == "" && !r.Failed(key+".path") {
			r.Rule(key+" has no path", "an absolute path", `Add the line: path = "/usr/libexec/…"`, key)
		}
	}
	if r.Failed("policy.allowed_model_sources") {
		return
	}
	for i, source := range h.Policy.AllowedModelSources {
		if scheme, _, _ := strings.Cut(source, ":"); !h.Provisioning.fetches(scheme) {
			r.RuleItem(i, fmt.Sprintf("policy.allowed_model_sources[%d] is %s, whose scheme is unknown", i,
				strict.Quote(source)), unknownScheme(source), "policy.allowed_model_sources")
		}
	}
}

// fetches reports whether models of a scheme can be named on this host.
func (p Provisioning) fetches(scheme string) bool {
	_, own := p.Programs[scheme]
	return known(scheme) || own
}

// unknownScheme is the hint about a reference whose scheme is unknown.
func unknownScheme(ref string) string {
	const hint = `Write a model as "file:/srv/models/a.gguf".`
	scheme, _, found := strings.Cut(ref, ":")
	if !found || modelref.OwnScheme(scheme) != "" {
		return hint
	}
	return hint + " Models of " + scheme + ": need a program, programs." + scheme + " under [provisioning] in " +
		policyFile + "."
}

// prefetchKnown refuses models to come of a scheme that nothing fetches.
func prefetchKnown(d *draft, r *strict.Report) {
	if r.Failed("prefetch") {
		return
	}
	for i, model := range d.Prefetch {
		if scheme, _, _ := strings.Cut(model, ":"); !d.host.fetches(scheme) {
			r.RuleItem(i, fmt.Sprintf("prefetch[%d] is %s, which does not begin with a scheme of models", i,
				strict.Quote(model)), unknownScheme(model), "prefetch")
		}
	}
}
