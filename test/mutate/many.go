package mutate

import (
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The environment of a run of many inputs, set by test/cmd/fuzz.
const (
	Inputs = "FUZZ_MANY"   // how many inputs one process tries of its target; nothing: none
	Until  = "FUZZ_UNTIL"  // seconds since 1970, when it ends at the latest
	Corpus = "FUZZ_CORPUS" // a directory with inputs, as go test -fuzz keeps them
)

// Line begins a line of the output, after which comes how many inputs were tried.
const Line = "mutate: inputs: "

// batch is how many inputs share a test: what they clean up and report is kept until it ends.
const batch = 500

// Many is the function of a fuzz target, which is to be given to testing.F.Fuzz. In a run of many
// inputs it tries, after each input of the corpus, a part of the inputs that were asked for.
// An input that fails is written where go test finds it again.
func Many[F any](target F) F {
	goal, err := strconv.Atoi(os.Getenv(Inputs))
	if err != nil || goal <= 0 {
		return target
	}
	r := &run{target: reflect.ValueOf(target), left: goal, share: goal/8 + 1}
	if s, err := strconv.ParseInt(os.Getenv(Until), 10, 64); err == nil {
		r.until = time.Unix(s, 0)
	}
	made := reflect.MakeFunc(r.target.Type(), r.one)
	return made.Interface().(F) //nolint:forcetypeassert // it was made of this type
}

// run is the run of one target in one process. One goroutine uses it.
type run struct {
	target      reflect.Value
	left, share int // inputs: in all, and after each one of the corpus
	until       time.Time
	sources     *sources
}

// one is called with an input of the corpus.
func (r *run) one(args []reflect.Value) []reflect.Value {
	r.target.Call(args)
	t := args[0].Interface().(*testing.T) //nolint:forcetypeassert // F.Fuzz demands it
	if r.sources == nil {
		r.sources = load(os.Getenv(Corpus))
	}
	r.sources.add(args[1:])
	tried := 0
	for tried < r.share && r.left > 0 && !t.Failed() && (r.until.IsZero() || time.Now().Before(r.until)) {
		n := min(batch, r.left, r.share-tried)
		t.Run("", func(t *testing.T) { r.some(t, n) })
		tried, r.left = tried+n, r.left-n
	}
	fmt.Println(Line + strconv.Itoa(tried))
	return nil
}

// some tries n inputs.
func (r *run) some(t *testing.T, n int) {
	var last []reflect.Value
	whole := false
	defer func() {
		if t.Failed() || !whole && !t.Skipped() { // reported, or a panic
			keep(t, last)
		}
	}()
	for range n {
		last = append([]reflect.Value{reflect.ValueOf(t)}, r.sources.next(r.target.Type())...)
		if r.target.Call(last); t.Failed() {
			return
		}
	}
	whole = true
}

// keep writes an input as go test -fuzz does.
func keep(t *testing.T, args []reflect.Value) {
	name, _, _ := strings.Cut(t.Name(), "/")
	file, err := write(name, args[1:])
	if err != nil {
		t.Logf("the input could not be written: %v", err)
		return
	}
	t.Logf("the input is in %s: go test -run %s/%s", file, name, file[strings.LastIndexByte(file, '/')+1:])
}
