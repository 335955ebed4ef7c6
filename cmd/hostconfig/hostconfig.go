// Package hostconfig reads the whole configuration of a host: config.toml with the manager's own
// keys (who may call, logs, metrics, the fleet view), and the pool files with it.
//
// It owns the keys of config.toml that pools do not depend on; the others are units/config's. It
// must not act on any of them: the programs under cmd/ do the wiring.
package hostconfig

import (
	"fmt"

	"github.com/pool-managerd/pool-managerd/units/config"
	"github.com/pool-managerd/pool-managerd/units/config/strict"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Where the package puts the configuration.
const (
	DefaultFile  = "/etc/pool-managerd/config.toml"
	DefaultPools = "/etc/pool-managerd/pools.d"
)

// Problem is one thing that is wrong with a configuration file.
type Problem = config.Problem

// Settings is the contents of config.toml.
type Settings struct {
	Host    config.Host
	Auth    Auth
	Log     Log
	Metrics Metrics
	Fleet   Fleet
}

// Config is the whole configuration, read at one time.
type Config struct {
	Settings
	// SettingsGood reports whether config.toml has no problem. If it has one, Settings is what
	// could be read of it, to check pool files only: keep the former Settings.
	SettingsGood bool
	Pools        []pool.Pool // without any problem, by id
	Problems     []Problem   // of config.toml first, then of the pool files by file and line
	Denied       []Problem   // why the host's policy forbids pools of Pools, by file and line
	Notes        []string    // to be logged; not problems

	Binaries config.Binaries // what the pools execute, for the policy
}

// Default returns the settings without a config.toml.
func Default() Settings {
	return Settings{Host: config.DefaultHost(), Log: Log{Level: "info", Format: FormatAuto},
		Metrics: Metrics{Enabled: true}, Fleet: fleetDefaults()}
}

// Load reads config.toml and every pool file. It never fails as a whole: errors are in Problems,
// and the valid pools are returned beside them.
func Load(configFile, poolsDir string) Config {
	c, _ := Former{}.Load(configFile, poolsDir, nil)
	return c
}

// LoadSettings reads config.toml alone. A missing one is all defaults.
func LoadSettings(configFile string) (Settings, []Problem, []string) {
	if strict.IsMissing(configFile) {
		return Default(), nil, []string{fmt.Sprintf("%s does not exist; every setting has its default", configFile)}
	}
	data, problem := strict.ReadFile(configFile)
	if problem != nil {
		return Default(), []Problem{*problem}, nil
	}
	s, problems := parse(configFile, data)
	return s, problems, nil
}

func parse(file string, data []byte) (Settings, []Problem) {
	return parseBy(schema(), file, data)
}

// parseBy is parse with a schema that is made already.
func parseBy(known strict.Schema[Settings], file string, data []byte) (Settings, []Problem) {
	s := Default()
	doc, problems := strict.Parse(file, data)
	problems = append(problems, known.Decode(doc, &s, rules()...)...)
	strict.Sort(problems)
	return s, problems
}
