package engine

import (
	"strconv"

	"github.com/pool-managerd/pool-managerd/units/pattern"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// promptCaching is implemented by adapters whose engine keeps prompts in main memory.
type promptCaching interface {
	// promptCache returns how large that cache may become by itself, in bytes, and the flag that
	// bounds it, in MiB; 0 for a version that has none, and where the pool's arguments bound it.
	promptCache(p pool.Pool, version string) (bytes uint64, flag string)
}

// PromptCacheArgs returns the arguments that bound an engine's prompt cache to what its cgroup has
// left: memoryMax less need, and a quarter of that, since other buffers grow too. Where the need is
// unknown (0) the cache gets a quarter. It returns nil where the engine's own bound is lower, or
// nothing is known to bound.
func PromptCacheArgs(p pool.Pool, version string, memoryMax, need uint64) []string {
	a, known := For(p.Engine)
	c, caches := a.(promptCaching)
	if !known || !caches || memoryMax == 0 {
		return nil
	}
	room := memoryMax / 4
	if need > 0 {
		room = memoryMax - min(memoryMax, need)
		room -= room / 4
	}
	most, flag := c.promptCache(p, version)
	if room >= most {
		return nil
	}
	return []string{flag, strconv.FormatUint(room>>20, 10)}
}

// The cache came with ggml-org/llama.cpp#16391 in October 2025, about build 6700; versions with a
// number of their own (0.1.2 was build 10485) all have it. Its default is of --help of 0.7.0.
const (
	llamaCacheBuild = 7000
	llamaCacheBytes = 8192 << 20
)

// llamaRelease is a version with a number of its own; "0.6.0-dev" is that of a build by hand.
var llamaRelease = pattern.Lazy(`^\d+\.\d+\.\d+(?:-|$)`)

func (llamaCpp) promptCache(p pool.Pool, version string) (bytes uint64, flag string) {
	build, err := strconv.Atoi(version)
	has := err == nil && build >= llamaCacheBuild || llamaRelease().MatchString(version)
	f := llamaCpp{}.flags(p)
	if _, own := f.value("LLAMA_ARG_CACHE_RAM", "-cram", "--cache-ram"); !has || own {
		return 0, ""
	}
	return llamaCacheBytes, "--cache-ram"
}
