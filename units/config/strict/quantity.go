package strict

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Errors of the readers below; the caller names the key and what is allowed.
var (
	errNoUnit = errors.New("no unit")
	errForm   = errors.New("not of the form")
	errRange  = errors.New("too large")
)

var sizeForm = regexp.MustCompile(`^([0-9]{1,19})(?:([KMGT])(?:iB)?)?$`)

// ParseSize reads "24G", "24GiB" or "1024": base 1024, whole numbers only.
func ParseSize(s string) (uint64, error) {
	m := sizeForm.FindStringSubmatch(s)
	if m == nil {
		return 0, errForm
	}
	n, err := strconv.ParseUint(m[1], 10, 64)
	if err != nil {
		return 0, errRange
	}
	shift := 0
	if m[2] != "" {
		shift = 10 * (strings.Index("KMGT", m[2]) + 1)
	}
	if n > math.MaxInt64>>shift {
		return 0, errRange
	}
	return n << shift, nil
}

// FormatSize prints a size as ParseSize reads it, with the largest unit that divides it.
func FormatSize(n uint64) string {
	for i := len("KMGT"); i > 0; i-- {
		if shift := 10 * i; n > 0 && n%(1<<shift) == 0 {
			return fmt.Sprintf("%d%c", n>>shift, "KMGT"[i-1])
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

// ParseDuration reads a duration as Go writes it: "1.5s", "5m", "1h30m". A number without a unit is
// refused, since its meaning is unknown.
func ParseDuration(s string) (time.Duration, error) {
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return 0, errNoUnit
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, errForm
	}
	return d, nil
}
