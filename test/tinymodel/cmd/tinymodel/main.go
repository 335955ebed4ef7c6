// Command tinymodel writes a random-weight GGUF model for tests and demonstrations. It owns flags
// only.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/pool-managerd/pool-managerd/test/tinymodel"
)

func main() {
	var opts tinymodel.Options
	flag.Uint64Var(&opts.Seed, "seed", 0, "equal seeds give equal models")
	flag.Int64Var(&opts.Size, "size", 0, "least size of the file in bytes")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: tinymodel [-seed N] [-size BYTES] FILE")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := tinymodel.Write(flag.Arg(0), opts); err != nil {
		fmt.Fprintln(os.Stderr, "tinymodel:", err)
		os.Exit(1)
	}
}
