package hostconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/units/config"
	"github.com/pool-managerd/pool-managerd/units/config/strict"
)

// FormerFile is the name of the file in the state directory that has the Former.
const FormerFile = "configuration.json"

// DefaultFormer is where the manager of the package writes it.
const DefaultFormer = "/var/lib/pool-managerd/" + FormerFile

// Former is which parts of the configuration were there when it was last read. A part that was
// there and is gone is a problem, and no wish to have the defaults or no pools: a file system may
// not be mounted, or someone moved a directory. The zero value misses nothing.
type Former struct {
	ConfigFile string `json:"config_file,omitempty"` // the path of config.toml; empty: there was none
	Pools      Folder `json:"pools,omitzero"`
}

// Folder is the directory of pool files, as it was.
type Folder struct {
	Path   string `json:"path"`
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
	Born   int64  `json:"born,omitempty"` // when it was made, in ns since 1970: a new one may get a former one's inode
	Files  int    `json:"files"`          // of pools, good or bad
}

// ReadFormer reads the file; a missing one is the zero value.
func ReadFormer(path string) (Former, error) {
	var f Former
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	if err != nil {
		return Former{}, fmt.Errorf("what the configuration had before: %w", err)
	}
	return f, nil
}

// Write replaces the file.
func (f Former) Write(path string) error {
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(path, append(text, '\n'), 0o600)
}

// Next looks at what is there now. It returns the record to be kept from now on, and a problem for
// each part that is gone.
func (f Former) Next(configFile, poolsDir string) (Former, []Problem) {
	var problems []Problem
	next := f
	switch missing := strict.IsMissing(configFile); {
	case missing && f.ConfigFile == configFile:
		problems = append(problems, goneFile(configFile))
	case missing:
		next.ConfigFile = ""
	default:
		next.ConfigFile = configFile
	}
	now, err := folder(poolsDir)
	was := f.Pools
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		// It is there and cannot be read, which is a problem of its own.
	case now.Files > 0 || was.Files == 0 || was.Path != poolsDir:
		next.Pools = now
	case err == nil && now.Device == was.Device && now.Inode == was.Inode && now.Born == was.Born:
		next.Pools = now // the files were removed one by one: that is how pools are removed
	default:
		problems = append(problems, goneFolder(poolsDir, was.Files, err == nil))
	}
	return next, problems
}

// folder describes the directory as it is now.
func folder(dir string) (Folder, error) {
	info, err := os.Stat(dir)
	if err != nil {
		if !strict.IsMissing(dir) && errors.Is(err, fs.ErrNotExist) {
			err = errDangling
		}
		return Folder{}, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return Folder{}, err
	}
	f := Folder{Path: dir}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		f.Device, f.Inode = st.Dev, st.Ino
	}
	var x unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_BTIME, &x) == nil && x.Mask&unix.STATX_BTIME != 0 {
		f.Born = x.Btime.Sec*1e9 + int64(x.Btime.Nsec)
	}
	for _, e := range entries {
		if config.IsPoolFile(e.Name()) {
			f.Files++
		}
	}
	return f, nil
}

// errDangling distinguishes a dangling symbolic link from a missing directory.
var errDangling = errors.New("the symbolic link leads nowhere")

// accept is how an administrator says that a part is meant to be gone.
const accept = "poolctl reload --accept-empty"

func goneFile(path string) Problem {
	return Problem{File: path, Message: "the file is gone; it was there when the configuration was last read",
		Hint: "The former settings stay in force. Restore the file, or make an empty one where the defaults are " +
			"meant, then run systemctl reload pool-managerd; or run " + accept + "."}
}

func goneFolder(dir string, files int, empty bool) Problem {
	had := fmt.Sprintf("%d pool files", files)
	if files == 1 {
		had = "one pool file"
	}
	message := "the directory is gone; it had " + had + " when the configuration was last read"
	if empty {
		message = "the directory is empty, and is not the one that had " + had +
			" when the configuration was last read: a file system may not be mounted"
	}
	return Problem{File: dir, Message: message,
		Hint: "Pools stay as they are. Restore or mount the directory, then run " +
			"systemctl reload pool-managerd; or run " + accept + " where this host is to have no pools."}
}

// Load reads the configuration, with a problem for each part that is gone, and returns the record
// to be kept. Where config.toml cannot be used, pools are checked against inForce, the settings
// that stay in force; where it is gone and inForce is nil, they are not checked.
func (f Former) Load(configFile, poolsDir string, inForce *config.Host) (Config, Former) {
	next, gone := f.Next(configFile, poolsDir)
	var c Config
	c.Settings = Default()
	host := &c.Settings.Host
	if len(gone) > 0 && gone[0].File == configFile {
		c.Problems, gone = gone[:1], gone[1:]
		host = nil
	} else {
		c.Settings, c.Problems, c.Notes = LoadSettings(configFile)
	}
	if c.SettingsGood = len(c.Problems) == 0; !c.SettingsGood && inForce != nil {
		host = inForce
	}
	if host != nil && len(gone) == 0 {
		set := config.LoadPools(poolsDir, *host)
		c.Binaries = set.Binaries
		c.Pools, c.Problems, c.Notes = set.Pools, append(c.Problems, set.Problems...), append(c.Notes, set.Notes...)
		if c.SettingsGood {
			c.Denied = set.Denied // else the policy is unknown
		}
	}
	c.Problems = append(c.Problems, gone...)
	return c, next
}
