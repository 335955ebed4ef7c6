package convert

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// reasons are why keys of llama-swap have no counterpart.
type reasons map[string]string

const (
	ofProxy = "pool-managerd forwards no requests: that is the business of what asks it for a pool"
	ofLog   = "engines log to the journal: poolctl logs POOL"
	ofPage  = "it is about llama-swap's own pages and lists"
)

// wholeReasons are those of the keys at the top.
var wholeReasons = reasons{
	"logLevel": ofLog, "logTimeFormat": ofLog, "logToStdout": ofLog, "logRequests": ofLog,
	"metricsMaxInMemory": "figures are at /metrics, for Prometheus", "performance": "figures are at /metrics, for " +
		"Prometheus",
	"captureBuffer": ofProxy, "sendLoadingState": ofProxy, "includeAliasesInList": ofPage, "store": ofPage,
	"ui":       ofPage,
	"upstream": ofProxy, "profiles": ofProxy, "routing": ofProxy,
	"startPort": "ports are those of port_range in config.toml",
	"hooks":     "each pool is started with the manager, and stays",
	"groups":    "pools do not make room for each other: all run at the same time",
	"matrix":    "pools do not make room for each other: all run at the same time",
	"peers":     `a model of another host is a pool with [provisioning] mode = "external", if it is wanted here`,
	"globalTTL": "a pool serves until it is drained, and is not unloaded when it is idle",
}

// modelReasons are those of the keys of a model.
var modelReasons = reasons{
	"name": ofPage, "description": ofPage, "metadata": ofPage, "unlisted": ofPage, "capabilities": ofPage,
	"aliases": "a pool has one name, its id", "useModelName": ofProxy, "filters": ofProxy, "sendLoadingState": ofProxy,
	"concurrencyLimit": "slots is what a pool serves at the same time, and leases count it",
	"timeouts":         ofProxy,
	"ttl":              "a pool serves until it is drained, and is not unloaded when it is idle",
	"cmdStop":          "PID 1 stops an engine with SIGTERM, after a drain",
}

// swap is a configuration of llama-swap that is being read.
type swap struct {
	file   string
	root   *branch
	macros []macro
	notes  []Note
}

func fromSwap(s Source) (Result, error) {
	root, err := readYAML(s)
	if err != nil {
		return Result{}, err
	}
	models := root.at["models"]
	switch {
	case root.at["services"] != nil && models == nil:
		return Result{}, fmt.Errorf("%s: this is a compose file, which is not read; want a %s, a %s or a %s",
			s.Name, Swap,
			Unit, Quadlet)
	case models == nil || models.kind != yaml.MappingNode || len(models.names) == 0:
		return Result{}, fmt.Errorf("%s: no models; want a %s, a %s or a %s", s.Name, Swap, Unit, Quadlet)
	case len(models.names) > maxPools:
		return Result{}, fmt.Errorf("%s: %d models; want at most %d", s.Name, len(models.names), maxPools)
	}
	w := swap{file: s.Name, root: root}
	w.macros = w.readMacros(root)
	w.whole()
	var launches []*launch
	for _, name := range models.names {
		launches = append(launches, w.model(name, models.at[name], models.key[name]))
	}
	return finish(Swap, launches, w.notes), nil
}

func (w *swap) left(line int, format string, args ...any) {
	w.notes = append(w.notes, Note{w.file, line, plain(fmt.Sprintf(format, args...))})
}

func (w *swap) at(line int) spot { return spot{w.file, line} }

// whole notes the keys at the top that no pool has.
func (w *swap) whole() {
	for _, name := range w.root.names {
		if slices.Contains([]string{"models", "macros", "healthCheckTimeout", "unloadTimeout"}, name) {
			continue
		}
		if name == "apiKeys" {
			w.left(w.root.key[name], "not copied: the apiKeys. auth_token_file in config.toml protects the "+
				"manager's API, and api_key_file an engine")
			continue
		}
		if why, known := wholeReasons[name]; known {
			w.left(w.root.key[name], "%s: %s", name, why)
		} else {
			w.left(w.root.key[name], "%s: unknown key; left out", name)
		}
	}
}

// readMacros reads a table of macros, the last first: a macro may hold those before it.
func (w *swap) readMacros(b *branch) (macros []macro) {
	table := b.at["macros"]
	if table == nil {
		return nil
	}
	for _, name := range table.names {
		v := table.at[name]
		if !v.scalar() {
			w.left(v.line, "macros.%s: it is no text; left out", name)
			continue
		}
		macros = append([]macro{{name, v.text}}, macros...)
	}
	for _, item := range table.items { // a list of one-key mappings, which keeps its order
		for _, name := range item.names {
			macros = append([]macro{{name, item.at[name].text}}, macros...)
		}
	}
	return macros
}

// model reads one model. What is wrong with it is a note, and an empty command line.
func (w *swap) model(name string, b *branch, line int) *launch {
	l := &launch{name: name, what: "model " + strconv.Quote(name), at: spot{w.file, line}, quoting: asShell}
	own := w.readMacros(b)
	names := make(map[string]bool)
	for _, m := range own {
		names[m.name] = true
	}
	macros := append(own, slices.DeleteFunc(slices.Clone(w.macros), func(m macro) bool { return names[m.name] })...)
	macros = append(macros, macro{"MODEL_ID", name})
	text := func(key string) string {
		v := b.at[key]
		if v == nil || !v.scalar() {
			return ""
		}
		expanded, err := expand(v.text, macros)
		if err != nil {
			l.left(w.at(v.line), "%s: %v", key, err)
			return ""
		}
		return expanded
	}
	if cmd := text("cmd"); cmd != "" {
		l.at.line = b.at["cmd"].line
		w.command(l, cmd)
	} else if b.at["cmd"] == nil {
		l.left(w.at(line), "models.%s.cmd: it is missing", name)
	}
	w.variables(l, b, macros)
	w.health(l, b, text)
	for _, key := range b.names {
		if slices.Contains([]string{"cmd", "macros", "env", "checkEndpoint", "proxy", "unloadTimeout"}, key) {
			continue
		}
		if v := b.at[key]; key == "ttl" && (v.text == "0" || v.text == "-1") {
			continue // never unloaded, as here
		}
		if why, known := modelReasons[key]; known {
			l.left(w.at(b.key[key]), "%s: %s", key, why)
		} else {
			l.left(w.at(b.key[key]), "models.%s.%s: unknown key; left out", name, key)
		}
	}
	return l
}

func (w *swap) command(l *launch, cmd string) {
	var lines []string
	for line := range strings.Lines(cmd) {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			lines = append(lines, line)
		}
	}
	words, err := asShell.split(strings.Join(lines, ""))
	if err != nil {
		l.left(l.at, "cmd: %v", err)
		return
	}
	l.argv = words
	for _, name := range unknownMacros(cmd) {
		l.left(l.at, "cmd: %s is no macro of this file; it stays as it is, and pool-managerd expands nothing", name)
	}
}

func (w *swap) variables(l *launch, b *branch, macros []macro) {
	list := b.at["env"]
	if list == nil {
		return
	}
	settings := list.texts(w.file)
	if len(settings) < len(list.items)+len(list.names) {
		l.left(w.at(b.key["env"]), "env: not each item is a text; those that are not were left out")
	}
	for _, s := range settings {
		text, err := expand(s.text, macros)
		name, value, found := strings.Cut(text, "=")
		if err != nil || !found {
			l.left(s.at, "env: an item is not of the form NAME=value; left out")
			continue
		}
		if unknown := unknownMacros(value); len(unknown) > 0 {
			l.left(s.at, "env %s: %s is no macro of this file; left out", name, strings.Join(unknown, ", "))
			continue
		}
		l.env = append(l.env, setting{name, value, s.at})
	}
}

// health reads what llama-swap knows of an engine that starts, serves and ends.
func (w *swap) health(l *launch, b *branch, text func(string) string) {
	switch check := text("checkEndpoint"); {
	case check == "none":
		l.left(w.at(b.key["checkEndpoint"]), "checkEndpoint none: a pool is ready when its engine answers; "+
			"[health] probe = \"tcp\" asks for "+
			"no more than a connection")
	case check != "" && check != "/health":
		l.check = &setting{"checkEndpoint", check, w.at(b.key["checkEndpoint"])}
	}
	if v := w.root.at["healthCheckTimeout"]; v != nil {
		l.span("health", "start_deadline", v.text, w.at(v.line), "healthCheckTimeout "+v.text)
	}
	for _, from := range []*branch{w.root, b} {
		if v := from.at["unloadTimeout"]; v != nil && v.text != "0" {
			l.span("drain", "deadline", v.text, w.at(v.line), "unloadTimeout "+v.text)
		}
	}
	proxy := text("proxy")
	if proxy == "" || strings.Contains(proxy, portMark) {
		return
	}
	_, address, _ := strings.Cut(proxy, "://")
	host, port, _ := strings.Cut(strings.TrimSuffix(path.Clean(address), "/"), ":")
	if (host == "localhost" || host == "127.0.0.1") && slices.Contains(l.argv, port) {
		return // the port of the command line
	}
	l.left(w.at(b.key["proxy"]), "proxy %s: an engine serves on 127.0.0.1, at its pool's port", proxy)
}
