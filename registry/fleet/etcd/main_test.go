package etcd

import (
	"flag"
	"os"
	"testing"
)

// TestMain has more tests run at a time than a host may have processors: they wait for the ends of
// leases.
func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", "8"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
