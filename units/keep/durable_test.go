package keep

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/test/mutate"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// fill sets every field that v reaches to a value that is not its zero, another one each time.
func fill(t *testing.T, v reflect.Value, n *int) {
	t.Helper()
	*n++
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("s%d \"\\\u2028<\x01", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.Float32, reflect.Float64:
		v.SetFloat(float64(*n) + 0.1)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(t, v.Index(0), n)
		fill(t, v.Index(1), n)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(t, key, n)
		fill(t, value, n)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		for i := range v.NumField() {
			if !v.Type().Field(i).IsExported() {
				t.Fatalf("%s.%s is not exported, so it would not be kept", v.Type(), v.Type().Field(i).Name)
			}
			fill(t, v.Field(i), n)
		}
	default:
		t.Fatalf("a field of kind %s", v.Kind())
	}
}

func TestVersionOfAPool(t *testing.T) {
	for name, set := range map[string]func(*pool.Pool){
		"with_every_field_set": func(p *pool.Pool) { n := 0; fill(t, reflect.ValueOf(p).Elem(), &n) },
		"with_none_set":        func(*pool.Pool) {},
	} {
		t.Run(name, func(t *testing.T) {
			var p, back pool.Pool
			set(&p)
			text, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			p.FileEnv = nil // of files that may hold secrets: they are read again
			if err := json.Unmarshal(text, &back); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(p, back) {
				t.Errorf("what a reload goes back to is another version:\n%s", cmp.Diff(p, back))
			}
		})
	}
}

// writerEnv makes the test's program the writer that TestSIGKILL kills.
const writerEnv = "KEEP_TEST_WRITER"

// TestWriter writes rising numbers, and prints each once it was acknowledged.
func TestWriter(t *testing.T) {
	path := os.Getenv(writerEnv)
	if path == "" {
		t.Skip("it is run by TestSIGKILL")
	}
	s := reopened(t, path)
	for n := 0; ; n++ {
		id := fmt.Sprintf("p%d", n%7)
		if err := s.Put(id, Intent{Drain: &Drain{By: strconv.Itoa(n)}}); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("wrote %s %d\n", id, n)
	}
}

// TestSIGKILL ends a writer anywhere in its work.
func TestSIGKILL(t *testing.T) {
	path := filepath.Join(t.TempDir(), "intents.db")
	for round := range 20 {
		acknowledged := killedWriter(t, path, 1+rand.IntN(60), time.Duration(rand.IntN(2000))*time.Microsecond)
		s := reopened(t, path)
		list, err := s.Intents()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for id, n := range acknowledged {
			if list[id].Drain == nil {
				t.Fatalf("round %d: %s is gone; %d was acknowledged", round, id, n)
			}
			// The next write may have been done and not yet printed.
			if kept, _ := strconv.Atoi(list[id].Drain.By); kept != n && kept != n+7 {
				t.Errorf("round %d: %s is %d; %d was acknowledged", round, id, kept, n)
			}
		}
	}
}

// killedWriter runs a writer, kills it that long after so many writes, and returns the last number
// acknowledged by id.
func killedWriter(t *testing.T, path string, writes int, after time.Duration) map[string]int {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestWriter$")
	cmd.Env = append(os.Environ(), writerEnv+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	printed, lines := make(map[string]int), 0
	for scan := bufio.NewScanner(out); scan.Scan(); {
		var id string
		var n int
		if _, err := fmt.Sscanf(scan.Text(), "wrote %s %d", &id, &n); err != nil {
			continue
		}
		printed[id] = n
		if lines++; lines == writes {
			time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
	}
	if err := cmd.Wait(); err == nil || lines < writes {
		t.Fatalf("the writer ended after %d writes, before it was killed: %v", lines, err)
	}
	return printed
}

// fillDisk takes all the room that is left on a file system, and returns the file that does.
func fillDisk(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "full")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return path
}

// smallDisk mounts a file system of one MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=700"); err != nil {
		t.Skipf("a file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// largeIntent does not fit into the pages that a new file has free.
func largeIntent() Intent { return Intent{Drain: &Drain{By: strings.Repeat("x", 64<<10)}} }

func TestFullDisk(t *testing.T) {
	large := largeIntent()
	t.Run("what_was_kept_stays_and_the_write_is_refused_with_a_remedy", func(t *testing.T) {
		dir := smallDisk(t)
		path := filepath.Join(dir, "intents.db")
		s := reopened(t, path)
		if err := s.Put("tiny", Intent{Drain: &Drain{By: "first"}}); err != nil {
			t.Fatal(err)
		}
		full := fillDisk(t, dir)
		var f *registry.Failure
		if err := s.Put("large", large); !errors.As(err, &f) || f.Code != registry.CodeStateNotSaved ||
			!strings.Contains(f.Hint, dir) {
			t.Fatalf("Put on a full disk: %v", err)
		}
		if list, err := s.Intents(); err != nil || len(list) != 1 || list["tiny"].Drain.By != "first" {
			t.Errorf("after the refusal: %v, %v", list, err)
		}
		if err := os.Remove(full); err != nil {
			t.Fatal(err)
		}
		if err := s.Put("large", large); err != nil {
			t.Errorf("with room again: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = reopened(t, path)
		defer s.Close()
		if list, err := s.Intents(); err != nil || len(list) != 2 {
			t.Errorf("opened again: %d intents, %v", len(list), err)
		}
	})
	t.Run("a_daemon_starts_on_it", func(t *testing.T) {
		dir := smallDisk(t)
		full := fillDisk(t, dir)
		s, reports := opened(filepath.Join(dir, "state", "intents.db"))
		if r := reports(); len(r) != 1 || r[0].Damage != nil || !errors.Is(r[0].Refused, syscall.ENOSPC) {
			t.Fatalf("Open: %+v", r)
		}
		defer s.Close()
		if err := os.Remove(full); err != nil {
			t.Fatal(err)
		}
		if err := s.Put("tiny", Intent{Drain: &Drain{}}); err != nil {
			t.Errorf("with room again: %v", err)
		}
	})
}

// FuzzIntent reads what another program may have written: an error, or an intent that reads as the
// same after it was written.
func FuzzIntent(f *testing.F) {
	f.Add([]byte(`{"drain":{"since":"2026-01-02T03:04:05Z","deadline":{"boot":"b","at_ns":7,"wall":"2026-01-02T03:04:05Z"}}}`))
	f.Add([]byte(`{"of_a_later_version":{"a":1},"override":{"model":"file:/m"}}`))
	f.Add([]byte(`{"current":{"ID":"tiny"},"reload":{}}`))
	f.Add([]byte(`{`))
	f.Fuzz(mutate.Many(func(t *testing.T, text []byte) {
		var i, again Intent
		if json.Unmarshal(text, &i) != nil {
			return
		}
		first, err := json.Marshal(i)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(first, &again); err != nil {
			t.Fatalf("%s: %v", first, err)
		}
		if second, err := json.Marshal(again); err != nil || !bytes.Equal(first, second) {
			t.Errorf("%s became %s, %v", first, second, err)
		}
	}))
}

func TestEntriesOfOtherPrograms(t *testing.T) {
	put := func(t *testing.T, s *Store, id, text string) {
		t.Helper()
		if err := s.file.Update(func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte(intents)).Put([]byte(id), []byte(text))
		}); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("fields_of_a_later_program_are_passed_over", func(t *testing.T) {
		s := reopened(t, filepath.Join(t.TempDir(), "intents.db"))
		defer s.Close()
		put(t, s, "tiny", `{"later":{"a":[1]},"override":{"model":"file:/m","later":true}}`)
		list, err := s.Intents()
		if err != nil || list["tiny"].Override == nil || list["tiny"].Override.Model != "file:/m" {
			t.Errorf("Intents = %v, %v", list, err)
		}
	})
	t.Run("one_that_cannot_be_read_is_kept_aside_when_it_is_replaced", func(t *testing.T) {
		s := reopened(t, filepath.Join(t.TempDir(), "intents.db"))
		defer s.Close()
		put(t, s, "tiny", `{"drain":7}`)
		for _, i := range []Intent{{Drain: &Drain{By: "uid:0"}}, {}} {
			if err := s.Put("tiny", i); err != nil {
				t.Fatal(err)
			}
		}
		err := s.file.View(func(tx *bbolt.Tx) error {
			if got := tx.Bucket([]byte(unread)).Get([]byte("tiny")); string(got) != `{"drain":7}` {
				t.Errorf("kept aside: %q", got)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}
