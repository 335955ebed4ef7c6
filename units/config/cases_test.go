package config

import (
	"flag"
	"fmt"
	"path/filepath"
	"reflect"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/golden"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

var update = flag.Bool("update", false, "write golden files and reference pages")

// TestPoolFiles reads each case: a pool file, dashes, and the problems with their hints, or else
// what the pool has that a pool of defaults has not.
func TestPoolFiles(t *testing.T) {
	golden.Cases(t, filepath.Join("testdata", "pool", "*.txt"), 20, *update, func(t *testing.T, input string) string {
		p, problems := ParsePool("case.toml", []byte(input), DefaultHost())
		if (p == nil) != (len(problems) > 0) {
			t.Errorf("pool %v with %d problems", p, len(problems))
		}
		return printed(p, problems)
	})
}

func printed(p *pool.Pool, problems []Problem) string {
	var b strings.Builder
	for _, problem := range problems {
		fmt.Fprintln(&b, problem.Error())
		if problem.Hint != "" {
			fmt.Fprintln(&b, "    "+problem.Hint)
		}
	}
	if p != nil {
		b.WriteString(strings.Join(differences(*p, builtin()), ""))
	}
	return b.String()
}

// differences lists the fields of a pool that differ from another's, one a line, sorted.
func differences(p, from pool.Pool) []string {
	have, base := map[string]string{}, map[string]string{}
	flatten(have, "", reflect.ValueOf(p))
	flatten(base, "", reflect.ValueOf(from))
	var lines []string
	for name, value := range have {
		if base[name] != value {
			lines = append(lines, fmt.Sprintf("%s: %s\n", name, value))
		}
	}
	sort.Strings(lines)
	return lines
}

func flatten(into map[string]string, name string, v reflect.Value) {
	if v.Kind() != reflect.Struct {
		if d, ok := v.Interface().(time.Duration); ok {
			into[name] = d.String()
			return
		}
		into[name] = fmt.Sprintf("%#v", v.Interface())
		return
	}
	for i := range v.NumField() {
		flatten(into, strings.TrimPrefix(name+"."+v.Type().Field(i).Name, "."), v.Field(i))
	}
}
