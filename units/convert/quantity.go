package convert

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/units/config/strict"
)

var sizeForm = regexp.MustCompile(`^([0-9]{1,15}(?:\.[0-9]{1,6})?) ?([KMGTkmgtbB]?)(?:i?[bB])?$`)

// sizeOf reads a size of systemd or of a container, base 1024, as a pool file has it.
func sizeOf(text string) (string, bool) {
	m := sizeForm.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		return "", false
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if i := strings.Index("KMGT", strings.ToUpper(m[2])); i >= 0 && m[2] != "" {
		n *= math.Pow(1024, float64(i+1))
	}
	if err != nil || n < 1 || n > math.MaxInt64/2 {
		return "", false
	}
	whole := uint64(n)
	const kilo = 10
	if whole >= 1<<20 {
		whole = whole >> kilo << kilo // a fraction of a kilobyte says nothing
	}
	formatted := strict.FormatSize(whole)
	if plainNumber, found := strings.CutSuffix(formatted, " bytes"); found {
		return plainNumber, true
	}
	return quoted(formatted), true
}

// spanUnits are those of systemd.time(7), and of Go.
var spanUnits = map[string]time.Duration{
	"us": time.Microsecond, "usec": time.Microsecond, "ms": time.Millisecond, "msec": time.Millisecond,
	"": time.Second, "s": time.Second, "sec": time.Second, "second": time.Second, "seconds": time.Second,
	"m": time.Minute, "min": time.Minute, "minute": time.Minute, "minutes": time.Minute,
	"h": time.Hour, "hr": time.Hour, "hour": time.Hour, "hours": time.Hour,
	"d": 24 * time.Hour, "day": 24 * time.Hour, "days": 24 * time.Hour, "w": 7 * 24 * time.Hour,
}

var spanPart = regexp.MustCompile(`^\s*([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*([a-z]*)`)

// spanOf reads a time span of systemd as a pool file has it; "infinity" is none.
func spanOf(text string) (string, bool) {
	var sum time.Duration
	rest := strings.TrimSpace(text)
	if rest == "" {
		return "", false
	}
	for rest != "" {
		m := spanPart.FindStringSubmatch(rest)
		if m == nil {
			return "", false
		}
		unit, known := spanUnits[m[2]]
		n, err := strconv.ParseFloat(m[1], 64)
		if !known || err != nil || n*float64(unit) > float64(1000*24*time.Hour) {
			return "", false
		}
		sum += time.Duration(n * float64(unit))
		rest = strings.TrimSpace(rest[len(m[0]):])
	}
	return quoted(strict.FormatDuration(sum)), true
}

// tokensOf reads a number of tokens: vLLM knows 8k (8000) and 8K (8192).
func tokensOf(text string) (int, bool) {
	factor := map[string]float64{"k": 1e3, "K": 1 << 10, "m": 1e6, "M": 1 << 20}
	unit := 1.0
	if n := len(text); n > 1 && factor[text[n-1:]] > 0 {
		unit, text = factor[text[n-1:]], text[:n-1]
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n < 0 || n*unit > 1<<30 {
		return 0, false
	}
	return int(n * unit), true
}

// number settles a key that is a whole number.
func (l *launch) number(table, name, text string, at spot, why string) {
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		l.left(at, "%s: %q is no number", why, text)
		return
	}
	l.key(table, name, strconv.Itoa(n), why)
}

// size settles a key that is a size.
func (l *launch) size(table, name, text string, at spot, why string) {
	if slices.Contains([]string{"infinity", "max", "0"}, text) {
		return // no limit, as without the key
	}
	value, ok := sizeOf(text)
	if !ok {
		l.left(at, "%s: %q is no size that a pool file has", why, text)
		return
	}
	l.key(table, name, value, why)
}

// span settles a key that is a time.
func (l *launch) span(table, name, text string, at spot, why string) {
	value, ok := spanOf(text)
	if !ok {
		l.left(at, "%s: %q is no time that a pool file has", why, text)
		return
	}
	l.key(table, name, value, why)
}
