package hostconfig

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/pool-managerd/pool-managerd/units/binaries"
	"github.com/pool-managerd/pool-managerd/units/cdi"
	"github.com/pool-managerd/pool-managerd/units/config"
	"github.com/pool-managerd/pool-managerd/units/library"
	"github.com/pool-managerd/pool-managerd/units/modelref"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

const imageKey = "provisioning.image"

// refusedDownloads returns a problem for each model and each image that would have to be downloaded
// and may not be: it is not in the cache, and the host downloads nothing, or not from there. What
// may be there whole is used as it is.
func refusedDownloads(c Config) []Problem {
	settings := c.Settings.Host.Fetching()
	var problems []Problem
	for _, p := range c.Pools {
		named := map[string]string{"model": string(p.Model)}
		for i, model := range p.Prefetch {
			named[fmt.Sprintf("prefetch[%d]", i)] = model
		}
		if p.Provisioning.Mode == pool.ModeContainer {
			named[imageKey] = p.Provisioning.Image
		}
		for _, key := range slices.Sorted(maps.Keys(named)) {
			parse := modelref.Parse
			if key == imageKey {
				parse = modelref.ParseImage
			}
			ref, err := parse(named[key])
			if err != nil || !ref.Remote() || library.Find(settings.CacheDir, ref).Whole != library.No {
				continue
			}
			if f := settings.Refuse(ref); f != nil {
				problems = append(problems, config.Locate(p, key, f.Message, f.Hint))
			}
		}
	}
	return problems
}

// missingDrivers returns a problem for each pool of an image whose GPUs no file in dirs describes:
// its engine would not get the driver's files.
func missingDrivers(c Config, dirs []string) []Problem {
	var problems []Problem
	for _, p := range c.Pools {
		names := slices.Concat(p.Devices...)
		if p.Provisioning.Mode != pool.ModeContainer || len(names) == 0 {
			continue
		}
		var wrong *cdi.Error
		if _, err := cdi.Read(dirs, names); errors.As(err, &wrong) {
			problems = append(problems, config.Locate(p, "devices", "in an image, its GPUs need the driver's files: "+
				wrong.Message, wrong.Hint))
		}
	}
	return problems
}

// unusablePrograms returns a problem for each program of config.toml that would not be executed.
func unusablePrograms(configFile string, c Config) []Problem {
	var problems []Problem
	programs := c.Settings.Host.Provisioning.Programs
	for _, name := range slices.Sorted(maps.Keys(programs)) {
		path, key := programs[name].Path, "provisioning.programs."+name
		if path == "" {
			continue // that is a problem of the file
		}
		if wrong, fix := binaries.Program(path); wrong != "" {
			hint := "Install it, or correct the path."
			if fix != "" {
				hint = "Run: " + fix
			}
			message := fmt.Sprintf("the program %s is not executed: %s", path, wrong)
			problems = append(problems, config.LocateIn(configFile, key, message, hint))
		} else if f := c.Settings.Host.Policy.RefuseExecuted(path); f != nil {
			problems = append(problems, config.LocateIn(configFile, key, f.Message, f.Hint))
		}
	}
	return problems
}
