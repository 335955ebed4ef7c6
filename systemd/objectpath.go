package systemd

import (
	"strings"

	"github.com/godbus/dbus/v5"
)

const unitPathPrefix = "/org/freedesktop/systemd1/unit/"

const hexDigits = "0123456789abcdef"

// unitPath returns the object path of a unit. Each byte other than a letter or a digit, and a digit
// in the first place, is written as _XX with lower-case hex digits; an empty name is "_"
// (sd_bus_path_encode(3)).
func unitPath(name string) dbus.ObjectPath {
	if name == "" {
		return unitPathPrefix + "_"
	}
	var b strings.Builder
	b.Grow(len(unitPathPrefix) + len(name) + 16)
	b.WriteString(unitPathPrefix)
	for i := range len(name) {
		c := name[i]
		digit := c >= '0' && c <= '9'
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if letter || digit && i > 0 {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'_', hexDigits[c>>4], hexDigits[c&15]})
	}
	return dbus.ObjectPath(b.String())
}

// unitName is the inverse of unitPath; false if path is not a unit's in the form that unitPath
// writes.
func unitName(path dbus.ObjectPath) (string, bool) {
	label, ok := strings.CutPrefix(string(path), unitPathPrefix)
	if !ok || label == "" || strings.Contains(label, "/") {
		return "", false
	}
	if label == "_" {
		return "", true
	}
	var b strings.Builder
	for i := 0; i < len(label); i++ {
		if label[i] != '_' {
			b.WriteByte(label[i])
			continue
		}
		if i+2 >= len(label) {
			return "", false
		}
		high, low := strings.IndexByte(hexDigits, label[i+1]), strings.IndexByte(hexDigits, label[i+2])
		if high < 0 || low < 0 {
			return "", false
		}
		b.WriteByte(byte(high<<4 | low))
		i += 2
	}
	name := b.String()
	return name, unitPath(name) == path
}
