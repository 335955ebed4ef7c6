package main

import (
	"fmt"
	"os"
	"syscall"

	"github.com/pool-managerd/pool-managerd/cmd/hostconfig"
	"github.com/pool-managerd/pool-managerd/registry"
)

// sources are the pool files as they were when the configuration was read, by the pool's id.
type sources map[string]source

// source is one file.
type source struct {
	path string
	seen stamp
}

// stamp is what of a file differs after each change. The zero value is that of a file that is gone.
type stamp struct {
	device, inode uint64
	size          int64
	changed       syscall.Timespec // st_ctim, which no program can set
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return stamp{}
	}
	return stamp{st.Dev, st.Ino, st.Size, st.Ctim}
}

// sourcesOf looks at the files of a configuration that was read a moment ago.
func sourcesOf(c hostconfig.Config) sources {
	s := make(sources, len(c.Pools))
	for _, p := range c.Pools {
		s[p.ID] = source{p.Source, stampOf(p.Source)}
	}
	for _, p := range c.Problems {
		if p.PoolID != "" && p.File != "" {
			s[p.PoolID] = source{p.File, stampOf(p.File)}
		}
	}
	return s
}

// changed returns why a pool cannot be reloaded to what its file says now: the file is another than
// the one that was read. Nil: it is the same, or the pool has none.
func (s sources) changed(id string) *registry.Failure {
	was, known := s[id]
	if !known || stampOf(was.path) == was.seen {
		return nil
	}
	return registry.Fail(registry.CodeInvalidParams,
		fmt.Sprintf("%s was changed or removed since it was read, and the pool %s is what it said then", was.path, id),
		"systemctl reload pool-managerd reads the files again, and reloads the pools that differ.")
}
