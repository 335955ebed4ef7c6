package bench

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/units/perf"
)

// pieces is a body whose reads bring one piece each.
type pieces []string

func (p *pieces) Read(into []byte) (int, error) {
	if len(*p) == 0 {
		return 0, io.EOF
	}
	n := copy(into, (*p)[0])
	*p = (*p)[1:]
	return n, nil
}

// TestLateOutputs: outputs that one read brought together are counted, but for the first of them.
func TestLateOutputs(t *testing.T) {
	const output, end = "data: {\"choices\":[{\"text\":\"a\"}]}\n\n", "data: [DONE]\n\n"
	for _, c := range []struct {
		name string
		body pieces
		late int
	}{
		{"one_by_one", pieces{output, output, output, end}, 0},
		{"in_parts_of_a_line", pieces{output[:9], output[9:], output, end}, 0},
		{"the_end_with_the_last", pieces{output, output, output + end}, 0},
		{"two_together", pieces{output, output + output, output, end}, 1},
		{"all_together", pieces{strings.Repeat(output, 5) + end}, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s perf.Stream
			if err := readStream(&c.body, &s, time.Now); err != nil || s.Late != c.late || s.Output < 2 {
				t.Errorf("%+v, %v; want %d late", s, err, c.late)
			}
		})
	}
}
