package grpchealth

import (
	"bytes"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

func TestStatus(t *testing.T) {
	cases := []struct {
		name  string
		frame []byte
		want  uint64
		wrong bool
	}{
		{"serving", []byte{0, 0, 0, 0, 2, 8, 1}, Serving, false},
		{"not_serving", []byte{0, 0, 0, 0, 2, 8, 2}, 2, false},
		{"left_out_is_unknown", []byte{0, 0, 0, 0, 0}, 0, false},
		{"fields_of_a_later_version", []byte{0, 0, 0, 0, 11, 0x12, 2, 'a', 'b', 0x1d, 1, 2, 3, 4, 8, 1}, Serving, false},
		{"compressed", []byte{1, 0, 0, 0, 2, 8, 1}, 0, true},
		{"cut_short", []byte{0, 0, 0, 0, 2, 8}, 0, true},
		{"no_frame", []byte("HTTP"), 0, true},
		{"field_longer_than_the_message", []byte{0, 0, 0, 0, 4, 0x0a, 0xff, 0xff, 1}, 0, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got, err := Status(c.frame); got != c.want || (err != nil) != c.wrong {
				t.Errorf("Status = %s, %v; want %s", Name(got), err, Name(c.want))
			}
		})
	}
}

func TestRequest(t *testing.T) {
	if got := Request(""); !bytes.Equal(got, []byte{0, 0, 0, 0, 0}) {
		t.Errorf("the server as a whole is asked about with % x", got)
	}
	if got := Request("a.B"); !bytes.Equal(got, []byte{0, 0, 0, 0, 5, 0x0a, 3, 'a', '.', 'B'}) {
		t.Errorf("a service is asked about with % x", got)
	}
}

// FuzzStatus: bytes of an engine yield a status or an error, and only SERVING in its right form is
// health.
func FuzzStatus(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 2, 8, 1})
	f.Add([]byte{0, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 0, 9, 0x12, 2, 'a', 'b', 0x1d, 1, 2, 3, 4})
	f.Add([]byte{0, 0, 0, 0, 4, 0x0a, 0xff, 0xff, 1})
	f.Add([]byte{1, 0, 0, 0, 2, 8, 1})
	f.Fuzz(mutate.Many(func(t *testing.T, frame []byte) {
		status, err := Status(frame)
		if err != nil && status != 0 {
			t.Errorf("status %d with error %v", status, err)
		}
		if err == nil && status == Serving && !bytes.Contains(frame[frameHead:], []byte{1}) {
			t.Errorf("% x is healthy", frame)
		}
	}))
}
