package registry

import (
	"testing"
	"time"
)

func TestStaging(t *testing.T) {
	for _, c := range []struct {
		name string
		s    Staging
		want string
	}{
		{"nothing_is_known_yet", Staging{}, "begins"},
		{"all_is_known", Staging{Bytes: 41e9, Total: 100e9, Rate: 310e6, File: "a.gguf"}, "41 %, 310 MB/s, 3 min left"},
		{"the_total_is_not_known", Staging{Bytes: 1234567, Rate: 9949}, "1.2 MB, 9.9 kB/s"},
		{"seconds_are_left", Staging{Bytes: 0, Total: 59, Rate: 1}, "0 %, 1 B/s, 59 s left"},
		{"days_are_left", Staging{Bytes: 0, Total: 1e12, Rate: 1e6}, "0 %, 1.0 MB/s, 278 h left"},
		{"more_than_all", Staging{Bytes: 101, Total: 100, Rate: 1}, "100 %, 1 B/s, 0 s left"},
		{"it_waits", Staging{Bytes: 5, Total: 10, Note: "the hub is busy", Until: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
			"50 %, waits until 03:04:05: the hub is busy"},
		{"it_waits_for_an_unknown_time", Staging{Note: "the hub is busy"}, "waits: the hub is busy"},
		{"numbers_of_a_liar", Staging{Bytes: 1 << 60, Total: 1 << 60, Rate: 1 << 60}, "100 %, 1152922 TB/s, 0 s left"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.s.String(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
