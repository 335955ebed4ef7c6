package leaselog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry/lease"
	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// filled is a file with leases 0 to n-1, and its path.
func filled(t *testing.T, n int) (path string, content []byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "leases.db")
	f, r := Open(path, nil)
	if r != (Report{}) {
		t.Fatalf("%+v", r)
	}
	for i := range n {
		if err := f.Save([]lease.Lease{sample(i, i)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, content
}

// serves fails the test unless the file takes a lease and has it, with the others, when it is
// opened again.
func serves(t *testing.T, f *File, path string, others int) {
	t.Helper()
	if n := len(loaded(t, f)); n != others {
		t.Errorf("%d leases were read, want %d", n, others)
	}
	if err := f.Save([]lease.Lease{sample(7777, 1)}, nil); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got := kept(t, path); len(got) != others+1 || got["l-7777"].ID == "" {
		t.Errorf("%d leases are in the file, want %d", len(got), others+1)
	}
}

// TestDamage: whatever is at the path, it is moved aside, what can be read is kept, and the file
// takes leases.
func TestDamage(t *testing.T) {
	const leases = 100
	for _, c := range []struct {
		name   string
		make   func(t *testing.T, path string, content []byte)
		damage string // what is reported
		kept   int    // at least so many
	}{
		{"noise_in_a_record", func(t *testing.T, path string, content []byte) {
			copy(content[len(content)/2:], "noise")
			write1(t, path, content)
		}, "1 of 101 lines cannot be read: line ", leases - 1},
		{"noise_at_the_end_of_a_line", func(t *testing.T, path string, content []byte) {
			content[bytes.LastIndexByte(content[:len(content)/2], '\n')] = 'x'
			write1(t, path, content)
		}, "1 of 100 lines cannot be read", leases - 2},
		{"a_page_of_zeros", func(t *testing.T, path string, content []byte) {
			clear(content[4096:8192])
			write1(t, path, content)
		}, "cannot be read", leases - 20},
		{"a_line_without_end", func(t *testing.T, path string, content []byte) {
			write1(t, path, append(append(content, bytes.Repeat([]byte{'x'}, 3*maxLine)...), '\n'))
		}, "1 of 102 lines cannot be read", leases},
		{"noise_in_the_first_line", func(t *testing.T, path string, content []byte) {
			content[3] = 0xff
			write1(t, path, content)
		}, "the first line is not the header of a lease file", leases},
		{"all_noise", func(t *testing.T, path string, content []byte) {
			for i := range content {
				content[i] = byte(i * i >> 3)
			}
			write1(t, path, content)
		}, "the first line is not", 0},
		{"a_later_format", func(t *testing.T, path string, content []byte) {
			write1(t, path, []byte(headerPrefix+"3\nwhatever\n"))
		}, `the file has format "3", this version reads 2`, 0},
		{"empty", func(t *testing.T, path string, _ []byte) { write1(t, path, nil) }, "the file is empty", 0},
		{"cut_in_the_first_line", func(t *testing.T, path string, content []byte) {
			write1(t, path, content[:10])
		}, "the first line is not", 0},
		{"a_directory", func(t *testing.T, path string, _ []byte) {
			if err := errors.Join(os.Remove(path), os.MkdirAll(filepath.Join(path, "sub"), 0o700)); err != nil {
				t.Fatal(err)
			}
		}, "is a directory", 0},
		{"a_pipe", func(t *testing.T, path string, _ []byte) {
			if err := errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			path, content := filled(t, leases)
			c.make(t, path, content)
			f, r := Open(path, nil)
			if r.Damage == nil || !strings.Contains(r.Damage.Error(), c.damage) || r.Refused != nil || r.Kept < c.kept {
				t.Fatalf("reported %+v", r)
			}
			if _, err := os.Stat(r.Aside); err != nil || len(asides(path)) != 1 {
				t.Errorf("moved aside to %q: %v; %v", r.Aside, err, asides(path))
			}
			serves(t, f, path, r.Kept)
		})
	}
	t.Run("another_process_has_it", func(t *testing.T) {
		path, _ := filled(t, leases)
		other, _ := Open(path, nil)
		defer other.Close()
		f, r := Open(path, nil)
		if !errors.Is(r.Damage, errLocked) || r.Kept != leases || r.Refused != nil {
			t.Fatalf("reported %+v", r)
		}
		serves(t, f, path, leases)
	})
	t.Run("another_owner", func(t *testing.T) {
		path, _ := filled(t, leases)
		f, r := open(path, nil, &faulty{at: 1, err: syscall.EACCES})
		if !errors.Is(r.Damage, syscall.EACCES) || r.Aside == "" || r.Refused != nil {
			t.Fatalf("reported %+v", r)
		}
		serves(t, f, path, 0)
	})
	t.Run("a_directory_where_the_new_file_goes", func(t *testing.T) {
		path, _ := filled(t, leases)
		if err := os.MkdirAll(filepath.Join(path+newSuffix, "sub"), 0o700); err != nil {
			t.Fatal(err)
		}
		f, r := Open(path, nil)
		if r != (Report{}) {
			t.Errorf("reported %+v", r)
		}
		if err := f.replace(); err != nil {
			t.Error(err)
		}
		serves(t, f, path, leases)
	})
}

func write1(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestTorn: a file that was cut anywhere has what is before the cut, and reports the rest once.
func TestTorn(t *testing.T) {
	path, content := filled(t, 20)
	for cut := len(headerLine()); cut < len(content); cut += 7 {
		write1(t, path, content[:cut])
		lines := bytes.Count(content[:cut], []byte{'\n'})
		torn := cut - bytes.LastIndexByte(content[:cut], '\n') - 1
		f, r := Open(path, nil)
		if r.Damage != nil || r.Refused != nil || r.Torn != int64(torn) {
			t.Fatalf("cut at %d: reported %+v, want %d bytes torn", cut, r, torn)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		f, r = Open(path, nil)
		if r != (Report{}) {
			t.Fatalf("cut at %d: reported a second time: %+v", cut, r)
		}
		serves(t, f, path, lines-1)
	}
}

// TestRefused: a disk that takes no writes costs leases their answer, and the manager nothing.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=700"); err != nil {
		t.Skipf("a file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	remount := func(flags uintptr, options string) {
		t.Helper()
		if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|flags, options); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "leases.db")
	f, _ := Open(path, nil)
	held := make(map[string]lease.Lease)
	put := func(f *File, n int) (err error) {
		for i := 0; i < n && err == nil; i++ {
			l := sample(len(held), 0)
			if err = f.Save([]lease.Lease{l}, nil); err == nil {
				held[l.ID] = l
			}
		}
		return err
	}
	t.Run("full", func(t *testing.T) {
		if err := put(f, 1e6); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("a full disk: %v", err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if got := kept(t, path); !maps.Equal(got, held) {
			t.Errorf("%d leases are in the file, acknowledged were %d", len(got), len(held))
		}
	})
	t.Run("read_only", func(t *testing.T) {
		remount(syscall.MS_RDONLY, "")
		f, r := Open(path, nil)
		defer f.Close()
		if r.Damage != nil || r.Aside != "" {
			t.Fatalf("reported %+v", r)
		}
		if got := loaded(t, f); !maps.Equal(got, held) {
			t.Errorf("%d leases were read, want %d", len(got), len(held))
		}
		if err := put(f, 1); err == nil {
			t.Error("written on a read-only disk")
		}
		remount(0, "size=4m")
		if err := put(f, 1); err != nil {
			t.Errorf("once the disk takes writes again: %v", err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if got := kept(t, path); !maps.Equal(got, held) {
			t.Errorf("at last %d leases are in the file, acknowledged were %d", len(got), len(held))
		}
	})
}

// TestFormer: the leases of a file of the older version are in force, and written before that file
// is gone.
func TestFormer(t *testing.T) {
	one := sample(1, 1)
	text, err := json.Marshal(one)
	if err != nil {
		t.Fatal(err)
	}
	list := map[string][]byte{one.ID: text, "odd": []byte("{"), "other": text}
	path := filepath.Join(t.TempDir(), "leases.db")
	t.Run("taken_over", func(t *testing.T) {
		write1(t, path, []byte("of an older version"))
		f, r := Open(path, func(string) (map[string][]byte, error) { return list, nil })
		if r != (Report{Kept: 1}) {
			t.Errorf("reported %+v", r)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if got := kept(t, path); got[one.ID] != one {
			t.Errorf("the new file has %v", got)
		}
	})
	t.Run("not_asked_of_a_file_of_this_version", func(t *testing.T) {
		_, r := Open(path, func(string) (map[string][]byte, error) { t.Error("asked"); return nil, nil })
		if r != (Report{}) {
			t.Errorf("reported %+v", r)
		}
	})
	t.Run("damaged", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "leases.db")
		write1(t, path, []byte("of an older version"))
		f, r := Open(path, func(string) (map[string][]byte, error) { return nil, errors.New("damaged") })
		if r.Damage == nil || r.Aside == "" {
			t.Errorf("reported %+v", r)
		}
		serves(t, f, path, 0)
	})
	t.Run("the_disk_is_full", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "leases.db")
		write1(t, path, []byte("of an older version"))
		d := &faulty{at: 4, err: syscall.ENOSPC}
		f, r := open(path, func(string) (map[string][]byte, error) { return list, nil }, d)
		if !errors.Is(r.Refused, syscall.ENOSPC) || d.done[4] != "write" {
			t.Fatalf("reported %+v after %v", r, d.done)
		}
		if old, err := os.ReadFile(path); string(old) != "of an older version" {
			t.Errorf("the older file has %q, %v", old, err)
		}
		serves(t, f, path, 1)
	})
}

// FuzzScan reads any bytes: no panic; what is read is what a file that holds it reads as; an error
// of a line means no record of it.
func FuzzScan(f *testing.F) {
	var lines []byte
	for _, r := range []record{{Put: &lease.Lease{ID: "l-1", Pool: "a"}}, {Drop: "l-1"},
		{Put: &lease.Lease{ID: "l-2", Pool: "b", Lost: "x"}}} {
		lines, _ = appendRecord(lines, r)
	}
	f.Add([]byte(headerLine() + string(lines)))
	f.Add([]byte(headerLine() + string(lines[:len(lines)-3])))
	f.Add([]byte(headerLine() + "noise\n" + string(lines)))
	f.Add([]byte(strings.Repeat("x", maxLine+3)))
	f.Fuzz(mutate.Many(func(t *testing.T, content []byte) {
		got, err := scan(bytes.NewReader(content), 0)
		if err != nil {
			t.Fatal(err)
		}
		if got.whole+got.torn != int64(len(content)) || len(got.leases) != len(got.spans) {
			t.Fatalf("%d and %d of %d bytes, %d leases at %d places", got.whole, got.torn, len(content),
				len(got.leases), len(got.spans))
		}
		again := []byte(headerLine())
		for id, s := range got.spans {
			line := content[s.at[0] : s.at[0]+int64(s.size)]
			if r, err := parseRecord(bytes.TrimSuffix(line, []byte("\n"))); err != nil || r.Put == nil ||
				*r.Put != got.leases[id] {
				t.Fatalf("%q is %v, %v", line, r, err)
			}
			again = append(again, line...)
		}
		second, err := scan(bytes.NewReader(again), 0)
		if err != nil || second.damage() != nil || second.torn != 0 || !maps.Equal(second.leases, got.leases) {
			t.Errorf("%v became %v; %v, %v", got.leases, second.leases, err, second.damage())
		}
		for line := range bytes.SplitSeq(content, []byte("\n")) {
			if r, err := parseRecord(line); (err == nil) == (r == record{}) {
				t.Errorf("%q: %v, %v", line, r, err)
			}
		}
	}))
}

func TestLongRecord(t *testing.T) {
	path, _ := filled(t, 1)
	f, _ := Open(path, nil)
	l := sample(2, 0)
	l.Holder = strings.Repeat("h", maxLine)
	if err := f.Save([]lease.Lease{sample(3, 0), l}, nil); err == nil {
		t.Error("a record that could not be read was written")
	}
	serves(t, f, path, 1)
}

func TestClosed(t *testing.T) {
	path, content := filled(t, 1)
	f, _ := Open(path, nil)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Save([]lease.Lease{sample(2, 0)}, nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Save after Close: %v", err)
	}
	if now, err := os.ReadFile(path); !bytes.Equal(now, content) {
		t.Error(fmt.Sprint("the file has changed: ", err))
	}
}

// TestRecord: the line has what encoding/json writes, and reads as the same record. Every field of
// a lease is set, so that a new one is not forgotten.
func TestRecord(t *testing.T) {
	var full lease.Lease
	for v, n := reflect.ValueOf(&full).Elem(), 0; n < v.NumField(); n++ {
		switch field := v.Field(n); field.Kind() {
		case reflect.String:
			field.SetString(fmt.Sprintf("s%d \"\\ \u2028 <é>\x01\n", n))
		case reflect.Int64:
			field.SetInt(int64(n) - 99)
		default:
			t.Fatalf("a field of kind %s", field.Kind())
		}
	}
	for name, r := range map[string]record{
		"every_field":    {Put: &full},
		"as_usual":       {Put: &lease.Lease{ID: "l-1", Pool: "a", Replica: "r0", Run: "0123", Endpoint: "http://127.0.0.1:1", Expires: 7, Taken: 6}},
		"no_utf8":        {Put: &lease.Lease{ID: "l-1", Pool: "a\ufffd"}},
		"dropped":        {Drop: "l-1"},
		"dropped/quoted": {Drop: `"`},
	} {
		t.Run(name, func(t *testing.T) {
			line, err := appendRecord([]byte("before"), r)
			if err != nil {
				t.Fatal(err)
			}
			line = bytes.TrimSuffix(bytes.TrimPrefix(line, []byte("before")), []byte("\n"))
			want, err := json.Marshal(r)
			if err != nil || string(line[sumDigits+1:]) != string(want) {
				t.Errorf("got  %s\nwant %s, %v", line[sumDigits+1:], want, err)
			}
			if got, err := parseRecord(line); err != nil || !reflect.DeepEqual(got, r) {
				t.Errorf("reads as %+v, %v", got, err)
			}
		})
	}
}
