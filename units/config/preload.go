package config

import (
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/config/strict"
	"github.com/pool-managerd/pool-managerd/units/confine"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Preload returns the pool that another program has prepared an engine for: what the request and
// its flags say, and [defaults] for the rest but for what a command line decides. It is pure. The
// error is a *registry.Failure with code INVALID_PARAMS.
func (h Host) Preload(id string, ask pool.Preload) (pool.Pool, error) {
	r := preload{ask: ask}
	r.pool = h.Defaults
	r.pool.ID, r.pool.Source, r.pool.Replicas, r.pool.Args = id, pool.SourcePreload, 1, nil
	r.pool.Env, r.pool.Sandbox.Allow = maps.Clone(h.Defaults.Env), slices.Clone(h.Defaults.Sandbox.Allow)
	for _, step := range []func() *registry.Failure{r.program, r.commandLine, r.address, r.model, r.devices, r.fits} {
		if f := step(); f != nil {
			return pool.Pool{}, f
		}
	}
	return r.pool, nil
}

// preload is a request while it becomes a pool.
type preload struct {
	ask     pool.Preload
	pool    pool.Pool
	adapter engine.Adapter
	given   engine.Given
}

func invalidField(hint, format string, args ...any) *registry.Failure {
	return registry.Fail(registry.CodeInvalidParams, fmt.Sprintf(format, args...), hint)
}

// program takes the binary and the engine.
func (r *preload) program() *registry.Failure {
	if !pool.ValidID(r.pool.ID) {
		return invalidField("It is "+pool.IDRule+".", "the pool's id is not a valid one")
	}
	path := r.ask.Binary
	if wrong := strict.Absolute(path); wrong != "" || binary(path) != "" {
		return invalidField("Send the absolute path of the engine's program.", "binary_path is %s, which is not the "+
			"absolute path of a program", strict.Quote(path))
	}
	kind := r.ask.Engine
	if kind == "" {
		kind = engine.OfBinary(path)
	}
	adapter, ok := engine.For(kind)
	if !ok {
		return invalidField("It is "+strict.OneOf(engine.Kinds())+", or absent: by the name of the binary.",
			"engine is %s, which is not known", strict.Quote(kind))
	}
	if strict.OneLine(r.ask.Version) != "" || len(r.ask.Version) > maxPattern {
		return invalidField("Send it as the engine prints it, or leave it out.", "engine_version is not one short line")
	}
	r.adapter, r.pool.Engine = adapter, kind
	r.pool.Provisioning = pool.Provisioning{Mode: pool.ModeBinary, Runtime: pool.RuntimeSystemd, Binary: path,
		Version: r.ask.Version}
	return nil
}

// commandLine takes what the flags say. The context and the slots are theirs alone: the command
// line is a whole one.
func (r *preload) commandLine() *registry.Failure {
	r.given = r.adapter.Given(r.ask.Flags)
	for _, wrong := range r.given.Wrong {
		return invalidField("Correct the flag.", "flags[%d] %s", wrong.At, wrong.Message)
	}
	r.pool.Args, r.pool.Ctx, r.pool.Slots, r.pool.TensorSplit = r.given.Args, r.given.Ctx, r.given.Slots, r.given.Split
	return nil
}

// address takes where the engine listens.
func (r *preload) address() *registry.Failure {
	for _, host := range []struct{ from, is string }{{"host is", r.ask.Host}, {"flags give the host", r.given.Host}} {
		if host.is != "" && !loopback(host.is) {
			return invalidField("Send 127.0.0.1, or leave it out.", "%s %s: engines listen on 127.0.0.1 only",
				host.from, strict.Quote(host.is))
		}
	}
	r.pool.Port = r.ask.Port
	if r.ask.Port != 0 && r.given.Port != 0 && r.ask.Port != r.given.Port {
		return invalidField("Send the same port in both, or in one of them.", "port is %d, and flags give %d",
			r.ask.Port,
			r.given.Port)
	}
	if r.pool.Port == 0 {
		r.pool.Port = r.given.Port
	}
	if p := r.pool.Port; p != 0 && (p < minPort || p > maxPort) {
		return invalidField("Send 0, or leave it out, to have one chosen.", "port is %d; it must be %d to %d", p,
			minPort,
			maxPort)
	}
	return nil
}

// loopback reports whether an engine that was to listen on a host may listen on 127.0.0.1 instead.
func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Is4() && addr.IsLoopback()
}

// model takes the model's path.
func (r *preload) model() *registry.Failure {
	file := r.ask.Model
	if file != "" && r.given.Model != "" && path.Clean(file) != path.Clean(r.given.Model) {
		return invalidField("Send the same path in both, or in one of them.",
			"model_path is %s, and flags give the model %s",
			strict.Quote(file), strict.Quote(r.given.Model))
	}
	if file == "" {
		file = r.given.Model
	}
	if file == "" {
		return nil // the engine's adapter says whether it needs one
	}
	model, wrong := Provisioning{}.modelOf("file:"+file, strict.Quote(file))
	if wrong != nil {
		return invalidField("It is the absolute path of a file or directory of this host. "+wrong.hint,
			"model_path %s", wrong.what)
	}
	r.pool.Model = model
	return nil
}

// devices takes the mask.
func (r *preload) devices() *registry.Failure {
	mask, partitions := []string{}, 0
	for _, text := range r.ask.Devices {
		name, ok := device(&strict.Value{Kind: strict.String, Str: text})
		if !ok {
			return invalidField("A device is "+deviceForms+"; several are joined by commas.",
				"device_mask has %s, which is not a device", strict.Quote(text))
		}
		if slices.ContainsFunc(mask, func(other string) bool { return overlapping(name, other) }) {
			return invalidField("Name each device once.", "device_mask has %s twice", strict.Quote(text))
		}
		if strings.HasPrefix(name, "MIG-") {
			partitions++
		}
		mask = append(mask, name)
	}
	if partitions > 0 && len(mask) > 1 {
		return invalidField("Send one MIG partition alone, or whole GPUs.",
			"device_mask has a MIG partition beside other devices")
	}
	r.pool.Devices = [][]string{mask}
	return nil
}

// fits applies the rules that hold for pool files, too.
func (r *preload) fits() *registry.Failure {
	for _, refused := range confine.Refusals(r.pool, r.adapter) {
		return r.refusal(refused)
	}
	return nil
}

// fields are the fields of a request by the keys of a pool file.
func fields() map[string]string {
	return map[string]string{"args": "flags", "model": "model_path", "provisioning.binary": "binary_path",
		"devices": "device_mask", "port": "port", "tensor_split": "flags"}
}

// refusal is a problem about a key of a pool, as one about the field of the request that it is
// from.
func (r *preload) refusal(of pool.Refusal) *registry.Failure {
	field, message := fields()[of.Base()], of.Message
	if at := of.Item(); of.Base() == "args" && at >= 0 {
		if at < len(r.given.At) {
			at = r.given.At[at]
		}
		field = fmt.Sprintf("flags[%d]", at)
		message = strings.Replace(message, of.Key, field, 1)
	}
	if field == "" {
		return invalidField(of.Hint+" It comes from [defaults] of config.toml.", "%s", message)
	}
	if !strings.Contains(message, field) {
		message = field + ": " + message
	}
	hint := strings.ReplaceAll(of.Hint, "args", "flags")
	switch of.Base() {
	case "model":
		hint = "Send model_path, the absolute path of what the engine loads."
	case "devices":
		hint = "Send device_mask; GET /v1/devices lists the GPUs."
	}
	return invalidField(hint, "%s", message)
}
