// Package config reads the pool files and the part of the host's configuration that pools depend
// on. Everything that is wrong comes back at once, each problem with its place, and a file with any
// problem yields no pool.
//
// It owns the keys of a pool file, their defaults and the rules between them, and the pure part of
// the host's policy. It must not know the manager's own listener, start anything, or look at what
// runs. Where the former version of a pool goes on because its file went wrong, the supervisor
// does that.
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
	Notes    []string    // worth a line in the log, and no problem
}
