package convert

import (
	"slices"
	"strings"
)

// environment takes Environment=, a list of assignments. A later one wins, and an empty one removes
// those before it.
func (u *unit) environment(k unitKey) {
	if k.value == "" {
		u.l.env = nil
		return
	}
	words, err := asUnit.split(k.value)
	if err != nil {
		u.l.left(k.at, "%s=: %v", k.name, err)
		return
	}
	for _, word := range words {
		word = u.specifiers(word, k.at)
		name, value, found := strings.Cut(word, "=")
		if !found {
			u.l.left(k.at, "%s=%s: not of the form NAME=value; left out", k.name, word)
			continue
		}
		u.l.env = slices.DeleteFunc(u.l.env, func(s setting) bool { return s.name == name })
		u.l.env = append(u.l.env, setting{name, value, k.at})
	}
}

func (u *unit) environmentFile(k unitKey) {
	if k.value == "" {
		u.l.envFiles = nil
		return
	}
	u.l.envFiles = append(u.l.envFiles, setting{text: u.specifiers(k.value, k.at), at: k.at})
}

// memlock: an unlimited one is a relaxation of the sandbox.
func (u *unit) memlock(k unitKey, why string) {
	if k.value == "infinity" {
		u.l.key("sandbox", "allow", `["mlock"]`, why)
		return
	}
	u.l.size("limits", "memlock", k.value, k.at, why)
}

// count takes a number that may be infinity, which is left to the default.
func (u *unit) count(name string) func(unitKey, string) {
	return func(k unitKey, why string) {
		if k.value == "infinity" {
			u.l.left(k.at, "%s: the default of %s applies", why, name)
			return
		}
		_, hard, both := strings.Cut(k.value, ":")
		if both {
			k.value = hard
		}
		u.l.number("limits", name, k.value, k.at, why)
	}
}

func (u *unit) cpus(k unitKey, why string) {
	u.l.key("limits", "cpus", quoted(strings.Join(strings.FieldsFunc(k.value,
		func(r rune) bool { return r == ' ' || r == ',' }), ",")), why)
}

func (u *unit) numaPolicy(k unitKey, why string) {
	if k.value != "default" {
		u.l.key("limits", "numa_policy", quoted(k.value), why)
	}
}

// restart: an engine that fails is always started again; one that ends well only where it was so.
func (u *unit) restart(k unitKey, why string) {
	if slices.Contains([]string{"no", "on-failure", "on-abnormal", "on-abort", "on-watchdog"}, k.value) {
		u.l.key("restart", "on_exit", `"stop"`, why)
	}
	if k.value == "no" {
		u.l.left(k.at, "Restart=no: an engine that fails is started again, after a delay that grows")
	}
}

func (u *unit) limitInterval(k unitKey, why string) {
	if k.value == "0" || k.value == "infinity" {
		u.l.left(k.at, "%s: the breaker of [restart] cannot be turned off; raise breaker_failures", why)
		return
	}
	u.l.span("restart", "breaker_window", k.value, k.at, why)
}

func (u *unit) writable(k unitKey, _ string) {
	var paths []string
	for _, p := range strings.Fields(k.value) {
		if p = strings.TrimLeft(p, "-+"); strings.HasPrefix(p, "/") {
			paths = append(paths, p)
		}
	}
	if len(paths) > 0 {
		u.l.key("", "writable", "["+list(paths)+"]", "The engine's user is its own: the directories must let "+
			"others write.")
	}
}
