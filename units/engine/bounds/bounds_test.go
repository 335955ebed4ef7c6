package bounds

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestInt(t *testing.T) {
	for _, c := range []struct {
		text string
		want int // 0: refused
	}{
		{"1", 1}, {"65536", Slots}, {"65537", 0}, {"0", 0}, {"-1", 0}, {"-2", 0}, {"9223372036854775807", 0},
		{"9223372036854775808", 0}, {"18446744073709551615", 0}, {"-9223372036854775808", 0}, {"1e3", 0}, {"4.0", 0},
		{"", 0}, {"null", 0}, {`"4"`, 0}, {"0x4", 0}, {"4 ", 0}, {"NaN", 0}, {"٤", 0}, {strings.Repeat("9", 1<<20), 0},
	} {
		n, err := Int(OfSlots, c.text, 1, Slots)
		var r *Refused
		if n != c.want || (err != nil) != (c.want == 0) || err != nil &&
			(!errors.As(err, &r) || len(r.Text) > Excerpt) {
			t.Errorf("Int(%.30q) = %d, %v; want %d", c.text, n, err, c.want)
		}
	}
}

func TestSum(t *testing.T) {
	for _, c := range []struct {
		name   string
		values []float64
		want   int // -1: refused
	}{
		{"none", nil, 0},
		{"fractions_are_rounded_up", []float64{1, 0.25}, 2},
		{"the_bound", []float64{Requests - 1, 1}, Requests},
		{"one_beyond_it", []float64{Requests, 1}, -1},
		{"negative", []float64{5, -1}, -1},
		{"not_a_number", []float64{math.NaN()}, -1},
		{"infinite", []float64{math.Inf(1)}, -1},
		{"negative_infinite", []float64{math.Inf(-1)}, -1},
		{"largest", []float64{math.MaxFloat64, math.MaxFloat64}, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := Sum{Subject: OfQueue, Most: Requests}
			var err error
			for _, v := range c.values {
				if err = s.Add("a", v); err != nil {
					break
				}
			}
			if got := s.Int(); (err != nil) != (c.want < 0) || err == nil && (got != c.want || s.Text() == "") {
				t.Errorf("%d, %v; want %d", got, err, c.want)
			}
		})
	}
}

// TestSumsFitIntoAnInt: what all engines of a host report can be added and compared.
func TestSumsFitIntoAnInt(t *testing.T) {
	const engines = 1 << 16 // more than a host has ports
	if bits := math.Log2(float64(Slots)) + math.Log2(float64(Requests)) + math.Log2(engines); bits > 62 {
		t.Errorf("the products and sums of counts need %v bits", bits)
	}
}

func TestQuote(t *testing.T) {
	for _, text := range []string{"", "a", "a\x1b[31m\n\x00b", "\xff\xfe", strings.Repeat("é", 1000), "\u202e"} {
		q := Quote(text)
		if len(q) > Excerpt*2 || !utf8.ValidString(q) || strings.ContainsFunc(q, func(r rune) bool {
			return r < ' ' || r == 0x7f
		}) {
			t.Errorf("Quote(%.20q) = %s", text, q)
		}
	}
}

func TestAbout(t *testing.T) {
	err := fmt.Errorf("wrapped: %w", Refuse(OfBusy, "it is %d", 7))
	if got := About(OfQueue, err); got.Error() != "read queue: it is 7" {
		t.Errorf("About = %v", got)
	}
	other := errors.New("other")
	if About(OfQueue, other) != other || About(OfQueue, nil) != nil {
		t.Error("About changes what is no refusal")
	}
}
