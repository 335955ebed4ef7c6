// Package config reads the pool files and the part of the host's configuration that pools depend
// on. All problems are reported at once, each with its place, and a file with any problem yields no
// pool.
//
// It owns the keys of a pool file, their defaults and the rules between them, and the pure part of
// the host's policy. It must not know the manager's own listener, start anything, or look at what
// runs. The supervisor keeps the former version of a pool whose file became invalid.
package config

import (
	"github.com/pool-managerd/pool-managerd/units/config/strict"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Problem is one thing that is wrong with a configuration file; see strict.Problem.
type Problem = strict.Problem

// Set is what a folder of pool files asks for.
type Set struct {
	Pools    []pool.Pool // without any problem, by id
	Problems []Problem   // by file and line
	Denied   []Problem   // why the host's policy forbids pools of Pools, by file and line
	Notes    []string    // to be logged; not problems
	Binaries Binaries    // what the pools execute
}
