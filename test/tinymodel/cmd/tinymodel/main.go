// Command tinymodel writes a random-weight GGUF model for tests and demonstrations, or what goes
// with one. It owns flags only.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/pool-managerd/pool-managerd/test/tinymodel"
)

func main() {
	var opts tinymodel.Options
	flag.Uint64Var(&opts.Seed, "seed", 0, "equal seeds give equal models")
	flag.Int64Var(&opts.Size, "size", 0, "least size of the file in bytes")
	kind := flag.String("kind", "model", "model, adapter (LoRA), projector (of images), or reranker")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: tinymodel [-kind KIND] [-seed N] [-size BYTES] FILE")
		flag.PrintDefaults()
	}
	flag.Parse()
	encode := map[string]func(io.Writer) error{
		"model":     func(w io.Writer) error { return tinymodel.Encode(w, opts) },
		"adapter":   func(w io.Writer) error { return tinymodel.EncodeAdapter(w, opts.Seed) },
		"projector": func(w io.Writer) error { return tinymodel.EncodeProjector(w, opts.Seed) },
		"reranker":  func(w io.Writer) error { return tinymodel.EncodeReranker(w, opts.Seed) },
	}[*kind]
	if flag.NArg() != 1 || encode == nil || *kind != "model" && opts.Size != 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := tinymodel.WriteWith(flag.Arg(0), encode); err != nil {
		fmt.Fprintln(os.Stderr, "tinymodel:", err)
		os.Exit(1)
	}
}
