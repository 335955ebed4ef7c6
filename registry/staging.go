package registry

import (
	"fmt"
	"strings"
	"time"
)

// Staging is how far the download of a pool's model is.
type Staging struct {
	Bytes int64     // on disk
	Total int64     // of all files; 0: not known yet
	Rate  int64     // bytes a second; 0: not known
	File  string    // the one that is written; empty: not known
	Note  string    // why nothing is written until Until; empty: it goes on
	Until time.Time // of the next attempt
}

// Percent is how much is there, false while the total is not known.
func (s Staging) Percent() (int, bool) {
	if s.Total <= 0 {
		return 0, false
	}
	return int(100 * (float64(min(s.Bytes, s.Total)) / float64(s.Total))), true
}

// Left is how long the rest takes at the present rate, false if it is not known.
func (s Staging) Left() (time.Duration, bool) {
	if s.Total <= 0 || s.Rate <= 0 {
		return 0, false
	}
	seconds := float64(max(s.Total-s.Bytes, 0)) / float64(s.Rate)
	return time.Duration(min(seconds, 1e7)) * time.Second, true
}

// String returns it for people: "41 %, 310 MB/s, 2 min left".
func (s Staging) String() string {
	var parts []string
	if percent, ok := s.Percent(); ok {
		parts = append(parts, fmt.Sprintf("%d %%", percent))
	} else if s.Bytes > 0 {
		parts = append(parts, Decimal(s.Bytes)+"B")
	}
	if s.Note != "" {
		waits := "waits"
		if !s.Until.IsZero() {
			waits += " until " + s.Until.Format(time.TimeOnly)
		}
		return strings.Join(append(parts, waits+": "+s.Note), ", ")
	}
	if s.Rate > 0 {
		parts = append(parts, Decimal(s.Rate)+"B/s")
	}
	if left, ok := s.Left(); ok {
		parts = append(parts, about(left)+" left")
	}
	if len(parts) == 0 {
		return "begins"
	}
	return strings.Join(parts, ", ")
}

// Decimal is a number with a prefix of base 1000, as downloads are measured: "310 M".
func Decimal(n int64) string {
	x := float64(n)
	for _, prefix := range []string{"", "k", "M", "G", "T"} {
		if x < 999.5 || prefix == "T" {
			if x < 9.95 && prefix != "" {
				return fmt.Sprintf("%.1f %s", x, prefix)
			}
			return fmt.Sprintf("%.0f %s", x, prefix)
		}
		x /= 1000
	}
	return ""
}

// about is a duration in its largest unit.
func about(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d.Round(time.Minute)/time.Minute)
	}
	return fmt.Sprintf("%d h", d.Round(time.Hour)/time.Hour)
}
