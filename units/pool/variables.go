package pool

import (
	"fmt"
	"maps"
)

// Hidden is a text that may be a secret: no format of package fmt and no log prints it.
type Hidden string

// String implements fmt.Stringer.
func (Hidden) String() string { return "[hidden]" }

// GoString implements fmt.GoStringer.
func (h Hidden) GoString() string { return h.String() }

// MarshalText implements encoding.TextMarshaler.
func (h Hidden) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// FileVariable is a variable that a file of EnvFiles sets.
type FileVariable struct {
	Value Hidden
	Item  int // of EnvFiles
	Line  int
}

// Variables returns the environment that the pool gives its engine: what is in its file wins over
// what is in EnvFiles. It must not be changed.
func (p Pool) Variables() map[string]string {
	if len(p.FileEnv) == 0 {
		return p.Env
	}
	all := make(map[string]string, len(p.FileEnv)+len(p.Env))
	for name, v := range p.FileEnv {
		all[name] = string(v.Value)
	}
	maps.Copy(all, p.Env)
	return all
}

// Variable says where a variable is set: the key as problems name it, and the words for messages,
// "env" or "env_file /etc/llm/env (line 3)".
func (p Pool) Variable(name string) (key, where string) {
	v, found := p.FileEnv[name]
	if _, own := p.Env[name]; own || !found {
		return "env." + name, "env"
	}
	key = fmt.Sprintf("env_file[%d]", v.Item)
	if v.Item >= len(p.EnvFiles) {
		return key, "env_file"
	}
	return key, fmt.Sprintf("env_file %s (line %d)", p.EnvFiles[v.Item], v.Line)
}
