package trial

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// unitText is a unit file: its sections, with each line as a key and a value.
type unitText []unitLine

type unitLine struct{ section, key, value string }

// parseUnit parses what `poolctl render` prints.
func parseUnit(text string) unitText {
	var u unitText
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "["); ok {
			section = strings.TrimSuffix(name, "]")
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if ok && !strings.HasPrefix(line, "#") && section != "" {
			u = append(u, unitLine{section, key, value})
		}
	}
	return u
}

// String returns the file.
func (u unitText) String() string {
	var b strings.Builder
	section := ""
	for _, l := range u {
		if l.section != section {
			section = l.section
			fmt.Fprintf(&b, "[%s]\n", section)
		}
		fmt.Fprintf(&b, "%s=%s\n", l.key, l.value)
	}
	return b.String()
}

// without leaves out lines; value "" means all of that key.
func (u unitText) without(key, value string) unitText {
	var rest unitText
	for _, l := range u {
		if l.key != key || value != "" && l.value != value {
			rest = append(rest, l)
		}
	}
	return rest
}

// replace changes the values of a key that begin with prefix; without change it leaves them out.
func (u unitText) replace(key, prefix string, change func(string) string) unitText {
	var rest unitText
	for _, l := range u {
		if l.key == key && strings.HasPrefix(l.value, prefix) {
			if change == nil {
				continue
			}
			l.value = change(l.value)
		}
		rest = append(rest, l)
	}
	return rest
}

// with replaces all lines of a key of [Service] by these.
func (u unitText) with(key string, values ...string) unitText {
	rest := u.without(key, "")
	for _, v := range values {
		rest = append(rest, unitLine{"Service", key, v})
	}
	return rest
}

// and adds a line of [Service].
func (u unitText) and(key, value string) unitText {
	return append(u[:len(u):len(u)], unitLine{"Service", key, value})
}

// notSandbox are the keys of a rendered unit that concern its life and not its sandbox.
var notSandbox = []string{"ExecStartPre", "ExecStart", "ExecStartPost", "ExecStop", "Restart", "RestartSec",
	"RestartSteps",
	"RestartMaxDelaySec", "Type", "TimeoutStartSec", "LogExtraFields", "Slice", "StandardInput",
	"StandardInputData", "PermissionsStartOnly",
	"RestartMode", "RestartForceExitStatus", "RestartPreventExitStatus"}

// probe makes a unit that runs one command in the sandbox of u, with directories of its own.
func (u unitText) probe(name, output string, command ...string) unitText {
	var rest unitText
	for _, l := range u {
		if l.section == "Service" {
			rest = append(rest, l)
		}
	}
	for _, key := range notSandbox {
		rest = rest.without(key, "")
	}
	rest = rest.with("StateDirectory", "pool-engine/"+name).with("CacheDirectory", "pool-engine/"+name).
		with("WorkingDirectory", "/var/lib/pool-engine/"+name).with("SyslogIdentifier", name)
	for i, l := range rest {
		for variable, dir := range map[string]string{"HOME=": "/var/lib/pool-engine/",
			"XDG_CACHE_HOME=": "/var/cache/pool-engine/"} {
			if l.key == "Environment" && strings.HasPrefix(l.value, variable) {
				rest[i].value = variable + dir + name
			}
		}
	}
	return append(rest, unitLine{"Service", "Type", "oneshot"}, unitLine{"Service", "TimeoutStartSec", "60"},
		unitLine{"Service", "StandardOutput", "file:" + output}, unitLine{"Service", "StandardError", "inherit"},
		unitLine{"Service", "ExecStart", strings.Join(command, " ")})
}

// trialUnit is a unit to try, and what became of it.
type trialUnit struct {
	name    string
	text    unitText
	command []string

	answer answer
	err    error // nil: the command said ok
}

// tryAll starts the units, a few at a time, and fills in what became of each.
func tryAll(ctx context.Context, out string, units []*trialUnit, atOnce int) error {
	dir := filepath.Join(out, "units")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, u := range units {
		file := filepath.Join("/run/systemd/system", u.name+".service")
		text := u.text.probe(u.name, filepath.Join(dir, u.name+".out"), u.command...).String()
		if err := errors.Join(os.WriteFile(file, []byte(text), 0o644),
			os.WriteFile(filepath.Join(dir, u.name+".service"), []byte(text), 0o644)); err != nil {
			return err
		}
	}
	if _, err := output(ctx, "systemctl", "daemon-reload"); err != nil {
		return err
	}
	turn := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for _, u := range units {
		all.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			u.try(ctx, filepath.Join(dir, u.name+".out"))
		})
	}
	all.Wait()
	return nil
}

// try starts the unit and reads the answer of its command.
func (u *trialUnit) try(ctx context.Context, file string) {
	_, started := output(ctx, "systemctl", "start", u.name+".service")
	if ctx.Err() != nil {
		u.err = ctx.Err()
		return
	}
	text, err := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		_ = json.Unmarshal([]byte(line), &u.answer) // other lines are the log
	}
	switch {
	case started != nil && len(text) > 0:
		u.err = errors.New(lastLine(string(text)))
	case started != nil:
		result, _ := output(ctx, "systemctl", "show", "-P", "ExecMainStatus", u.name+".service")
		u.err = fmt.Errorf("it was not executed, or ended without a word: status %s", strings.TrimSpace(result))
	case err == nil && !u.answer.OK:
		err = fmt.Errorf("it said %q", lastLine(string(text)))
		fallthrough
	default:
		u.err = err
	}
}

// pool is what the manager's API says of a pool.
type pool struct {
	ID           string `json:"id"`
	State        string `json:"state"`
	Ready        bool   `json:"ready"`
	LastError    string `json:"last_error"`
	Hint         string `json:"hint"`
	RestartCount int    `json:"restart_count"`
	Replicas     []struct {
		PID      int    `json:"pid"`
		Unit     string `json:"unit"`
		Endpoint string `json:"endpoint"`
		// How many layers of each model are on the GPU, as the API has it.
		GPULayers json.RawMessage `json:"gpu_layers"`
	} `json:"replicas"`
}

// api asks the manager over its unix socket.
func api(ctx context.Context, path string, into any) error {
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", "/run/pool-managerd/api.sock")
		}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s %s", path, resp.Status, lastLine(string(body)))
	}
	return json.Unmarshal(body, into)
}

// waitPool waits until the pool is as wanted, and returns it and how long that took.
func waitPool(ctx context.Context, id string, wanted func(pool) bool) (pool, time.Duration, error) {
	var p pool
	began := time.Now()
	err := eventually(ctx, 50*time.Millisecond, func() error {
		p = pool{}
		if err := api(ctx, "/v1/pools/"+id, &p); err != nil {
			return err
		}
		if !wanted(p) {
			return fmt.Errorf("pool %s is %s, ready %t, last error %q", id, p.State, p.Ready, p.LastError)
		}
		return nil
	})
	return p, time.Since(began), err
}

// writePools writes pool files, removes those with an empty text, and reloads the manager.
func writePools(ctx context.Context, files map[string]string) error {
	dir := "/etc/pool-managerd/pools.d"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for id, text := range files {
		file := filepath.Join(dir, id+".toml")
		var err error
		if text == "" {
			err = ignore(os.Remove(file), os.ErrNotExist)
		} else {
			err = os.WriteFile(file, []byte(text), 0o644)
		}
		if err != nil {
			return err
		}
	}
	_, err := output(ctx, "systemctl", "reload", "pool-managerd")
	return err
}
