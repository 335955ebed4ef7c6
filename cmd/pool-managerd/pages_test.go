package main

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestUnwritten: of the mappings of a process, those are given up whose every byte is in the file.
func TestUnwritten(t *testing.T) {
	const program = "/usr/bin/pool-managerd"
	mapping := func(line, anonymous string) string {
		return line + "\nSize: 4 kB\nRss: 4 kB\nAnonymous: " + anonymous + " kB\nVmFlags: rd mr mw me sd \n"
	}
	for _, c := range []struct {
		name, smaps string
		want        []span
	}{
		{"none", "", nil},
		{"code", mapping("00400000-00b10000 r-xp 00000000 fe:00 2 "+program, "0"), []span{{0x400000, 0xb10000}}},
		{"constants", mapping("00b10000-01297000 r--p 00710000 fe:00 2 "+program, "0"), []span{{0xb10000, 0x1297000}}},
		{"relocated_constants", mapping("00b10000-01297000 r--p 00710000 fe:00 2 "+program, "12"), nil},
		{"variables", mapping("01297000-01308000 rw-p 00e97000 fe:00 2 "+program, "0"), nil},
		{"of_another_file", mapping("7f00-7f10 r--p 00000000 fe:00 3 /usr/lib/libc.so.6", "0"), nil},
		{"of_a_longer_path", mapping("7f00-7f10 r--p 00000000 fe:00 3 /srv/x"+program, "0"), nil},
		{"of_no_file", mapping("c000000000-c000400000 rw-p 00000000 00:00 0", "0"), nil},
		{"replaced_by_a_new_version", mapping("00400000-00b10000 r-xp 00000000 fe:00 2 "+program+" (deleted)", "0"), nil},
		{"cut_off", "00400000-00b10000 r-xp 00000000 fe:00 2 " + program, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := unwritten(strings.NewReader(c.smaps), program)
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%x, %v, want %x", got, err, c.want)
			}
		})
	}
}

// TestUnmapProgram: this process gives up its own code while it runs, and goes on.
func TestUnmapProgram(t *testing.T) {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	if spans, err := unwritten(strings.NewReader(string(smaps)), program); err != nil || len(spans) < 2 {
		t.Errorf("code and constants of %s are %x, %v", program, spans, err)
	}
	for range 100 {
		if err := unmapProgram(); err != nil {
			t.Fatal(err)
		}
	}
}
