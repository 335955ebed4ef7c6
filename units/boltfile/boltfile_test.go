package boltfile

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

const large, small = "large", "small"

// open1 opens a file and returns what it reports, so far.
func open1(path string) (*File, func() []Report) {
	var all []Report
	f := Open(path, []string{large, small}, func(r Report) { all = append(all, r) })
	return f, func() []Report { return all }
}

// good opens a file that nothing may be wrong with.
func good(t *testing.T, path string) *File {
	t.Helper()
	f, reports := open1(path)
	if len(reports()) > 0 {
		t.Fatalf("reports: %+v", reports())
	}
	return f
}

func put(t *testing.T, f *File, bucket string, entries map[string]string) {
	t.Helper()
	err := f.Update(func(tx *bbolt.Tx) error {
		var err error
		for key, value := range entries {
			err = errors.Join(err, tx.Bucket([]byte(bucket)).Put([]byte(key), []byte(value)))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func entries(n int) map[string]string {
	all := make(map[string]string)
	for i := range n {
		all[fmt.Sprintf("key %04d", i)] = strings.Repeat(fmt.Sprint(i), 40)
	}
	return all
}

func all(t *testing.T, f *File, bucket string) map[string]string {
	t.Helper()
	got := make(map[string]string)
	err := f.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucket)).ForEach(func(key, value []byte) error {
			got[string(key)] = string(value)
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// filled is a file with a bucket of several levels of pages, one within its parent, and free pages.
func filled(t *testing.T) (path string, content []byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "sub", "intents.db")
	f := good(t, path)
	put(t, f, large, entries(400))
	put(t, f, large, entries(200))
	put(t, f, small, entries(3))
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, content
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// heals fails the test unless the file can be used: now, and when it is opened again.
func heals(t *testing.T, path string) (r Report, kept int) {
	t.Helper()
	f, reports := open1(path)
	if len(reports()) > 1 {
		t.Fatalf("reports: %+v", reports())
	}
	if len(reports()) == 1 {
		if r = reports()[0]; r.Damage == nil || r.Refused != nil {
			t.Fatalf("reports: %+v", r)
		}
		if _, err := os.Stat(r.Aside); err != nil || !strings.HasPrefix(r.Aside, path+".damaged-2") {
			t.Errorf("moved aside to %q: %v", r.Aside, err)
		}
	}
	got := all(t, f, large)
	if want := entries(400); !contains(want, got) {
		t.Errorf("entries that were never written: %v", got)
	}
	kept = len(got) + len(all(t, f, small))
	put(t, f, small, map[string]string{"later": "x"})
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f = good(t, path)
	defer f.Close()
	if again := all(t, f, large); !maps.Equal(again, got) || all(t, f, small)["later"] != "x" {
		t.Errorf("opened again it has %d entries, not %d", len(again), len(got))
	}
	return r, kept
}

// contains allows for values with noise in them: they have no checksum.
func contains(whole, part map[string]string) bool {
	for key := range part {
		if _, ok := whole[key]; !ok && strings.HasPrefix(key, "key ") {
			return false
		}
	}
	return true
}

// TestDamage: whatever is at the path, there is a file that works.
func TestDamage(t *testing.T) {
	path, whole := filled(t)
	page := os.Getpagesize()
	for at := 0; at < len(whole); at += page {
		t.Run(fmt.Sprintf("page_%d_of_noise", at/page), func(t *testing.T) {
			content := bytes.Clone(whole)
			for i := at; i < at+page; i++ {
				content[i] = byte(0xa5 + i)
			}
			write(t, path, content)
			if r, kept := heals(t, path); r.Damage != nil && r.Kept != kept || r.Damage == nil && kept != 403 {
				t.Errorf("kept %d entries, reported %+v", kept, r)
			}
		})
		t.Run(fmt.Sprintf("page_%d_of_zeros", at/page), func(t *testing.T) {
			content := bytes.Clone(whole)
			clear(content[at : at+page])
			write(t, path, content)
			heals(t, path)
		})
		t.Run(fmt.Sprintf("cut_off_after_%d_pages", at/page), func(t *testing.T) {
			write(t, path, whole[:at])
			if r, _ := heals(t, path); r.Damage == nil && at < len(whole)/2 {
				t.Error("not reported")
			}
		})
		t.Run(fmt.Sprintf("cut_off_in_page_%d", at/page), func(t *testing.T) {
			write(t, path, whole[:at+page/2])
			heals(t, path)
		})
	}
	for _, c := range []struct {
		name string
		make func(t *testing.T, path string)
		want string
		kept int
	}{
		{"empty", func(t *testing.T, path string) { write(t, path, nil) }, "the file is empty", 0},
		{"another_format", func(t *testing.T, path string) { write(t, path, bytes.Repeat([]byte("text\n"), 9999)) }, "the first pages", 0},
		{"a_directory", func(t *testing.T, path string) {
			if err := errors.Join(os.RemoveAll(path), os.MkdirAll(filepath.Join(path, "sub"), 0o700)); err != nil {
				t.Fatal(err)
			}
		}, "it is not a file", 0},
		{"a_pipe", func(t *testing.T, path string) {
			if err := errors.Join(os.RemoveAll(path), syscall.Mkfifo(path, 0o600)); err != nil {
				t.Fatal(err)
			}
		}, "it is not a file", 0},
		{"a_branch_that_leads_to_itself", func(t *testing.T, path string) {
			content := bytes.Clone(whole)
			for at := 2 * page; at < len(content); at += page {
				if order.Uint16(content[at+8:]) == flagBranch {
					order.PutUint64(content[at+pageHeader+8:], order.Uint64(content[at:]))
				}
			}
			write(t, path, content)
		}, "is used twice", 3},
		{"a_free_page_that_is_in_use", func(t *testing.T, path string) {
			content := bytes.Clone(whole)
			m, _, err := findMeta(content)
			if err != nil {
				t.Fatal(err)
			}
			order.PutUint64(content[int(m.freelist)*page+pageHeader:], m.root)
			write(t, path, content)
		}, "cannot be free", 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			path, _ := filled(t)
			c.make(t, path)
			r, kept := heals(t, path)
			if r.Damage == nil || !strings.Contains(r.Damage.Error(), c.want) || kept < c.kept || r.Kept != kept {
				t.Errorf("kept %d of %d entries, reported %+v", kept, c.kept, r)
			}
		})
	}
}

func TestLocked(t *testing.T) {
	path, _ := filled(t)
	other := good(t, path)
	defer other.Close()
	if r, kept := heals(t, path); !errors.Is(r.Damage, errLocked) || kept != 403 {
		t.Errorf("kept %d entries, reported %+v", kept, r)
	}
}

// TestHealsInUse: damage that comes while the file is open costs no more than a transaction.
func TestHealsInUse(t *testing.T) {
	path, whole := filled(t)
	f, reports := open1(path)
	defer f.Close()
	write(t, path, bytes.Repeat([]byte{0xa5}, len(whole)))
	err := f.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(large)).ForEach(func(_, _ []byte) error { return nil })
	})
	if err == nil {
		t.Fatal("noise was read")
	}
	put(t, f, small, map[string]string{"later": "x"})
	if r := reports(); len(r) != 1 || r[0].Damage == nil || r[0].Aside == "" || r[0].Path != path {
		t.Errorf("reports: %+v", r)
	}
	if got := all(t, f, small); got["later"] != "x" {
		t.Errorf("it has %v", got)
	}
}

func TestValues(t *testing.T) {
	path, whole := filled(t)
	got, err := Values(path, small)
	if err != nil || len(got) != 3 || string(got["key 0001"]) != strings.Repeat("1", 40) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := Values(path, "none"); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	clear(whole)
	write(t, path, whole)
	if got, err := Values(path, small); err == nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, whole) {
		t.Errorf("the file has changed: %v", err)
	}
}

func TestClosed(t *testing.T) {
	f := good(t, filepath.Join(t.TempDir(), "intents.db"))
	if err := errors.Join(f.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if err := f.Update(func(*bbolt.Tx) error { return nil }); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Update after Close: %v", err)
	}
	if err := f.View(func(*bbolt.Tx) error { return nil }); !errors.Is(err, errNotOpen) || f.Readable() {
		t.Errorf("View after Close: %v", err)
	}
	if err := (*File)(nil).Close(); err != nil {
		t.Error(err)
	}
}

// FuzzParse reads any bytes: no panic, and what is whole is read as bbolt reads it.
func FuzzParse(f *testing.F) {
	path := filepath.Join(f.TempDir(), "seed.db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: 1024})
	if err != nil {
		f.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte(large))
		for key, value := range entries(20) {
			err = errors.Join(err, b.Put([]byte(key), []byte(value)))
		}
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		f.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content, 0, byte(0))
	f.Add(content, 2*1024+8, byte(1))
	f.Add(content, 5*1024+17, byte(0xff))
	f.Fuzz(mutate.Many(func(t *testing.T, content []byte, at int, noise byte) {
		if at >= 0 && at < len(content) {
			content = bytes.Clone(content)
			content[at] ^= noise
		}
		got, err := parse(bytes.NewReader(content))
		if err != nil {
			return
		}
		path := filepath.Join(t.TempDir(), "x.db")
		write(t, path, content)
		file := Open(path, nil, func(r Report) { t.Errorf("%+v", r) })
		defer file.Close()
		for bucket, entries := range got {
			if n := len(all(t, file, bucket)); n != len(entries) {
				t.Errorf("bbolt reads %d entries of %s, not %d", n, bucket, len(entries))
			}
		}
	}))
}
