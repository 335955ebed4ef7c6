package render

import (
	"strconv"
	"time"

	"github.com/pool-managerd/pool-managerd/systemd"
)

// Sections of a unit file.
const (
	sectionUnit    = "Unit"
	sectionService = "Service"
	sectionSocket  = "Socket"
)

// text returns a row whose property is a string, as in the unit file.
func text(key, value, why string) Line {
	return Line{Section: sectionService, Key: key, Text: escapeSpecifiers(value), Why: why,
		Property: systemd.Property{Name: key, Value: value}}
}

// yes and no return rows whose property is a bool.
func yes(key, why string) Line { return boolean(key, true, why) }
func no(key, why string) Line  { return boolean(key, false, why) }

func boolean(key string, value bool, why string) Line {
	t := "no"
	if value {
		t = "yes"
	}
	return Line{Section: sectionService, Key: key, Text: t, Why: why,
		Property: systemd.Property{Name: key, Value: value}}
}

// span returns a row whose property counts microseconds: key "RestartSec" is property
// "RestartUSec".
func span(key, property string, d time.Duration, why string) Line {
	usec := uint64(max(d, 0) / time.Microsecond)
	return Line{Section: sectionService, Key: key, Text: spanText(usec), Why: why,
		Property: systemd.Property{Name: property, Value: usec}}
}

// spanText formats a span as in systemd.time(7), in the largest unit that gives a whole number.
func spanText(usec uint64) string {
	for _, unit := range []struct {
		suffix string
		usec   uint64
	}{{"h", 3600e6}, {"min", 60e6}, {"s", 1e6}, {"ms", 1e3}} {
		if usec >= unit.usec && usec%unit.usec == 0 {
			return strconv.FormatUint(usec/unit.usec, 10) + unit.suffix
		}
	}
	if usec == 0 {
		return "0"
	}
	return strconv.FormatUint(usec, 10) + "us"
}

// number returns a row whose property is an unsigned number of the given type.
func number[T uint32 | uint64](key string, value T, why string) Line {
	return Line{Section: sectionService, Key: key, Text: strconv.FormatUint(uint64(value), 10), Why: why,
		Property: systemd.Property{Name: key, Value: value}}
}

// signed returns a row whose property is a signed number.
func signed(key string, value int, why string) Line {
	return Line{Section: sectionService, Key: key, Text: strconv.Itoa(value), Why: why,
		Property: systemd.Property{Name: key, Value: int32(value)}}
}

// mode returns a row whose property is a file mode.
func mode(key string, value uint32, why string) Line {
	line := number(key, value, why)
	line.Text = "0" + strconv.FormatUint(uint64(value), 8)
	return line
}

// inUnit moves a row to the [Unit] section.
func inUnit(line Line) Line { line.Section = sectionUnit; return line }
