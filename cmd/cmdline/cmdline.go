// Package cmdline parses the arguments of the programs that units run: flags alone, and --version
// among them.
package cmdline

import (
	"errors"
	"flag"
	"fmt"
	"io"
)

// Exit statuses of such a program.
const (
	OK    = 0
	Usage = 2
)

// Parse parses the arguments into the flags of a program, which have its name. Where that is all
// that the program is to do, or all that it can, ends is true and status is what it ends with.
func Parse(f *flag.FlagSet, version string, args []string, stdout, stderr io.Writer) (status int, ends bool) {
	f.SetOutput(stderr)
	asked := f.Bool("version", false, "print the version and exit")
	err := f.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return OK, true
	case err != nil:
		return Usage, true
	case f.NArg() > 0:
		fmt.Fprintf(stderr, "%s: unexpected argument %q\n", f.Name(), f.Arg(0))
		return Usage, true
	case *asked:
		fmt.Fprintln(stdout, f.Name(), version)
		return OK, true
	}
	return 0, false
}
