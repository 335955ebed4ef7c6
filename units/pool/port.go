package pool

import (
	"strconv"
	"strings"
)

// PortPattern matches the socket unit of every port, as ListUnitsByPatterns takes it.
const PortPattern = "pool-port@*.socket"

const (
	portPrefix    = "pool-port@"
	portSuffix    = ".socket"
	serviceSuffix = ".service"
)

// Port is a TCP port that PID 1 holds for a replica without a network.
type Port struct {
	Replica Replica
	Number  int
}

// Socket returns the name of the unit that listens on the port.
func (p Port) Socket() string { return p.stem() + portSuffix }

// Service returns the name of the unit that forwards its connections.
func (p Port) Service() string { return p.stem() + serviceSuffix }

func (p Port) stem() string {
	return portPrefix + escape(p.Replica.FileStem()+"."+strconv.Itoa(p.Number))
}

// ParsePort is the inverse of Socket; ok is false for a unit that is not one of ours.
func ParsePort(unit string) (Port, bool) {
	inst, found := strings.CutPrefix(unit, portPrefix)
	if !found {
		return Port{}, false
	}
	if inst, found = strings.CutSuffix(inst, portSuffix); !found {
		return Port{}, false
	}
	name, ok := unescape(inst)
	dot := strings.LastIndexByte(name, '.')
	if !ok || dot < 0 {
		return Port{}, false
	}
	number, err := strconv.Atoi(name[dot+1:])
	r, ok := ParseFileStem(name[:dot])
	if p := (Port{r, number}); ok && err == nil && number > 0 && number <= 65535 && p.Socket() == unit {
		return p, true
	}
	return Port{}, false
}
