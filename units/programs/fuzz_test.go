package programs

import (
	"bytes"
	"encoding/binary"
	"path"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// FuzzELF: a hostile file costs bounded work, and an error means no result.
func FuzzELF(f *testing.F) {
	f.Add(library{interp: loader, soname: "a", needed: []string{"liba.so", "$ORIGIN/b.so"}, rpath: "/a:/b"}.bytes())
	f.Add(library{runpath: "$ORIGIN/../lib:${LIB}:$PLATFORM"}.bytes())
	f.Add([]byte("\x7fELF"))
	f.Fuzz(mutate.Many(func(t *testing.T, raw []byte) {
		o, err := parseELF(bytes.NewReader(raw), int64(len(raw)))
		if err != nil && (o.interp != "" || o.needed != nil || o.machine != 0) {
			t.Errorf("an error with a result: %+v, %v", o, err)
		}
		if len(o.needed) > maxObjects || len(o.runpath)+len(o.rpath) > maxFolders ||
			len(o.rpath) > 0 && len(o.runpath) > 0 {
			t.Errorf("beyond its bounds: %d needed, %d and %d folders", len(o.needed), len(o.rpath), len(o.runpath))
		}
		d := host()
		d.file("/opt/e", string(raw), 0o755)
		check(t, Resolve(d, "/opt/e", map[string]string{"LD_LIBRARY_PATH": "/opt"}))
	}))
}

// FuzzScript: a hostile script, or one in a language that is not known, is no different.
func FuzzScript(f *testing.F) {
	for _, s := range []string{
		"/usr/bin/env -S python3 -u\n", "/bin/sh\n'''exec' \"/a/b\" \"$0\"\n' '''\n", "/bin/sh\nexec \"$(dirname \"$0\")\"/x\n",
		"/bin/sh\nexport A=${B:+:$B}${C:-$(x)}\n. /opt/e\ncd /x && exec ./y <<E\n`z`\n", "/bin/sh\nif a; then b; fi; case x in y) z;; esac\nexec ${0%/*}/x\n",
		"/bin/sh\n${a:${b:${c:", "/bin/sh\nf() { exec /opt/e; }; f\\\n\"$(", "/bin/sh\nA+=\"x", "/bin/sh\n$((1+(2))) ${0:1}",
	} {
		f.Add(s)
	}
	f.Fuzz(mutate.Many(func(t *testing.T, script string) {
		d := host()
		d.file("/opt/e", "#!"+script, 0o755)
		got := Resolve(d, "/opt/e", nil)
		check(t, got)
		if len(got.Programs) == 0 || got.Programs[0] != "/opt/e" {
			t.Errorf("the script itself is not among %q", got.Programs)
		}
	}))
}

// FuzzCache: the cache is written by root and may be damaged.
func FuzzCache(f *testing.F) {
	f.Add(cache(map[string]string{"libc.so.6": "/lib/libc.so.6", "a": "/b"}), "libc.so.6")
	f.Add([]byte(cacheOld+"\x00\x00\x00\x00\x00"), "x")
	f.Fuzz(mutate.Many(func(t *testing.T, raw []byte, library string) {
		c := parseCache(raw, binary.LittleEndian)
		if c == nil {
			return
		}
		for _, p := range c.paths(library) {
			if !bytes.Contains(raw, []byte(p)) || len(p) > maxElement {
				t.Errorf("%q is not in the cache", p)
			}
		}
	}))
}

// check holds for every result.
func check(t *testing.T, n Needs) {
	t.Helper()
	for _, list := range [][]string{n.Programs, n.Libraries, n.Folders} {
		for _, p := range list {
			if !path.IsAbs(p) || path.Clean(p) != p || strings.ContainsRune(p, 0) {
				t.Errorf("%q is no clean path", p)
			}
		}
	}
	for _, m := range n.Missing {
		if m.By == "" {
			t.Errorf("%+v is needed by nothing", m)
		}
	}
}
