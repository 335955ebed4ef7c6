package config

import (
	"fmt"
	"net/url"
	"strconv"

	"github.com/pool-managerd/pool-managerd/units/config/strict"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// endpointURL checks the endpoint of an engine that another program runs.
func endpointURL(s string) string {
	if wrong := strict.OneLine(s); wrong != "" {
		return wrong
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https":
		return "is not an http or https URL"
	case u.User != nil:
		return "has credentials"
	case u.Hostname() == "":
		return "has no host"
	case u.Path != "" || u.RawQuery != "" || u.Fragment != "":
		return "continues after the port; the paths are the engine's own, or [health] path"
	}
	if n, err := strconv.Atoi(u.Port()); err != nil || n < 1 || n > maxPort {
		return "has no port"
	}
	return ""
}

// startedKeys are keys about a process that is started here.
var startedKeys = [...]string{"provisioning.binary", "replicas", "devices", "shared", "tensor_split", "vram", "port", "args", "env", "env_file", "ctx",
	"model_digest", "limits", "restart", "sandbox", "files",
	"health.start_timeout"}

// externalAlone requires the endpoint of an engine that another program runs, and refuses keys that
// cannot affect it.
func externalAlone(d *draft, r *strict.Report) {
	if r.Failed("provisioning.mode", "provisioning.url") {
		return
	}
	if d.Provisioning.Mode != pool.ModeExternal {
		if r.Has("provisioning.url") {
			r.Rule("provisioning.url is given and the mode is "+strict.Quote(d.Provisioning.Mode),
				"it in mode \"external\" only",
				`Set mode = "external", or remove the line.`, "provisioning.url")
		}
		return
	}
	if d.Provisioning.URL == "" {
		r.Rule("provisioning.url is missing", "the endpoint of the engine",
			`Add below [provisioning]: url = "http://127.0.0.1:8000"`, "provisioning.mode")
	}
	for _, key := range startedKeys {
		if r.Has(key) {
			r.Rule(fmt.Sprintf("%s is given and the mode is \"external\"", key), "nothing",
				"The engine is not started here. Remove the line.", key)
		}
	}
}
