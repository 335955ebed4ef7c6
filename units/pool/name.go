package pool

import (
	"fmt"
	"strconv"
	"strings"
)

// Slice is the slice of every engine unit.
const Slice = "pool-engines.slice"

// UnitPattern matches every engine unit, as ListUnitsByPatterns takes it.
const UnitPattern = "pool-engine@*.service"

const (
	unitPrefix = "pool-engine@"
	unitSuffix = ".service"
)

// IDRule is the rule for pool ids, for messages.
const IDRule = "1 to 63 of a-z, 0-9, dot, underscore and dash, beginning with a letter or digit"

// maxID is the longest pool id in bytes.
const maxID = 63

// ValidID reports whether id may name a pool.
func ValidID(id string) bool {
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return id != "" && len(id) <= maxID
}

// Replica names one engine process of a pool. Each slot index of a pool has two sides, like a
// blue/green deployment, so that a reload can start a new engine beside the one that serves.
// Outside of a reload one of them is in use.
type Replica struct {
	Pool  string
	Index int
	Side  int // 0 or 1
}

// secondSide is the suffix of the name of a replica on side 1.
const secondSide = "b"

// Other returns the same slot index on the other side.
func (r Replica) Other() Replica { return Replica{r.Pool, r.Index, 1 - r.Side} }

// Name returns the replica's id inside its pool: r0, r1, …, on side 1 r0b, r1b, …
func (r Replica) Name() string {
	name := "r" + strconv.Itoa(r.Index)
	if r.Side != 0 {
		name += secondSide
	}
	return name
}

// Stable returns the replica's name for other programs: that of side 0, whichever side serves.
func (r Replica) Stable() string { return Replica{Pool: r.Pool, Index: r.Index}.Name() }

// String returns pool and replica as messages print them: "llama3/r0".
func (r Replica) String() string { return r.Pool + "/" + r.Name() }

// FileStem returns pool and replica as file and directory names carry them: "llama3.r0".
func (r Replica) FileStem() string { return r.Pool + "." + r.Name() }

// Unit returns the unit's name. The characters of an id are escaped as systemd-escape(1) does,
// so that "%i" and "%I" mean what an administrator expects.
func (r Replica) Unit() string { return unitPrefix + escape(r.FileStem()) + unitSuffix }

// ParseUnit is the inverse of Unit; ok is false for a unit that is not one of ours.
func ParseUnit(unit string) (Replica, bool) {
	inst, found := strings.CutPrefix(unit, unitPrefix)
	if !found {
		return Replica{}, false
	}
	if inst, found = strings.CutSuffix(inst, unitSuffix); !found {
		return Replica{}, false
	}
	stem, ok := unescape(inst)
	if !ok {
		return Replica{}, false
	}
	r, ok := ParseFileStem(stem)
	if !ok || r.Unit() != unit {
		return Replica{}, false
	}
	return r, true
}

// ParseFileStem is the inverse of FileStem; ok is false for a name that no replica has.
func ParseFileStem(stem string) (Replica, bool) {
	dot := strings.LastIndex(stem, ".r")
	if dot < 0 {
		return Replica{}, false
	}
	number, second := strings.CutSuffix(stem[dot+2:], secondSide)
	index, err := strconv.Atoi(number)
	if err != nil || index < 0 {
		return Replica{}, false
	}
	r := Replica{Pool: stem[:dot], Index: index}
	if second {
		r.Side = 1
	}
	if !ValidID(r.Pool) || r.FileStem() != stem {
		return Replica{}, false
	}
	return r, true
}

// escape follows "String Escaping for Inclusion in Unit Names" in systemd.unit(5): everything
// but ASCII letters, digits, ":", "_" and a dot that is not the first becomes \xNN.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
			c == ':' || c == '_' || c == '.' && i > 0
		if plain {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}

func unescape(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		if i+4 > len(s) || s[i+1] != 'x' {
			return "", false
		}
		c, err := strconv.ParseUint(s[i+2:i+4], 16, 8)
		if err != nil {
			return "", false
		}
		b.WriteByte(byte(c))
		i += 3
	}
	return b.String(), true
}
