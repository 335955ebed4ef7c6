package systemd

import (
	"fmt"
	"math"
	"os"

	"github.com/godbus/dbus/v5"
)

// PathString is an element of a(ss) lists beside DeviceAllow and TemporaryFileSystem, such as
// LoadCredential (id, path).
type PathString struct {
	First  string
	Second string
}

// PlainCommand is an element of ExecStart, ExecStartPost, … without flags: a(sasb) on the bus. PID
// 1 expands variables in it.
type PlainCommand struct {
	Path          string
	Args          []string // with argv[0]
	IgnoreFailure bool
}

// DirectoryQuota is the value of StateDirectoryQuota and CacheDirectoryQuota: (tus) on the bus.
type DirectoryQuota struct {
	Bytes   uint64
	Scale   uint32 // as a part of the file system; NoScale: Bytes counts
	Enforce string // "yes" or "no"
}

// NoScale is UINT32_MAX.
const NoScale = math.MaxUint32

// EnvironmentFile is an element of EnvironmentFiles: a(sb) on the bus.
type EnvironmentFile struct {
	Path          string
	IgnoreMissing bool
}

// DeviceWeight is an element of the IO…Device properties: a(st) on the bus.
type DeviceWeight struct {
	Path  string
	Value uint64
}

// wireProperty is an element of a(sv), the form in which units are described to PID 1. godbus
// encodes a struct's exported fields in order.
type wireProperty struct {
	Name  string
	Value dbus.Variant
}

// wireProperties converts properties for the bus, in their order; PID 1 applies them in that order
// too.
func wireProperties(props []Property) ([]wireProperty, error) {
	out := make([]wireProperty, 0, len(props))
	for _, p := range props {
		v, err := wireValue(p.Value)
		if err != nil {
			return nil, fmt.Errorf("property %s: %w", p.Name, err)
		}
		out = append(out, wireProperty{Name: p.Name, Value: v})
	}
	return out, nil
}

// wireValue encodes a value with the D-Bus signature of its Go type. It refuses types that godbus
// would encode in another way (int as i, a map): PID 1 would only answer "invalid argument".
func wireValue(value any) (dbus.Variant, error) {
	switch v := value.(type) {
	case string, bool, int32, uint32, int64, uint64, float64:
		return dbus.MakeVariant(v), nil
	case []byte:
		return dbus.MakeVariant(notNil(v)), nil
	case []string:
		return dbus.MakeVariant(notNil(v)), nil
	case [][]byte:
		return dbus.MakeVariant(notNil(v)), nil
	case []ExecCommand:
		return dbus.MakeVariant(execCommands(v)), nil
	case []PlainCommand:
		return dbus.MakeVariant(notNil(v)), nil
	case []AddressPrefix:
		return dbus.MakeVariant(notNil(v)), nil
	case []BindMount:
		return dbus.MakeVariant(notNil(v)), nil
	case []PathOptions:
		return dbus.MakeVariant(notNil(v)), nil
	case []DevicePermission:
		return dbus.MakeVariant(notNil(v)), nil
	case []PathString:
		return dbus.MakeVariant(notNil(v)), nil
	case []EnvironmentFile:
		return dbus.MakeVariant(notNil(v)), nil
	case []DeviceWeight:
		return dbus.MakeVariant(notNil(v)), nil
	case DirectoryQuota:
		return dbus.MakeVariant(v), nil
	case SetFilter:
		v.Members = notNil(v.Members)
		return dbus.MakeVariant(v), nil
	case ExitStatusSet:
		v.Statuses, v.Signals = notNil(v.Statuses), notNil(v.Signals)
		return dbus.MakeVariant(v), nil
	case *os.File:
		return fileValue(v)
	}
	return dbus.Variant{}, fmt.Errorf("%T has no D-Bus form here; see systemd.Property", value)
}

func notNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func execCommands(in []ExecCommand) []ExecCommand {
	out := make([]ExecCommand, 0, len(in))
	for _, c := range in {
		out = append(out, ExecCommand{Path: c.Path, Args: notNil(c.Args), Flags: notNil(c.Flags)})
	}
	return out
}

// fileValue passes an open file (h). It reads the number without os.File.Fd, which may change the
// blocking mode of the file description that the service shares.
func fileValue(f *os.File) (dbus.Variant, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return dbus.Variant{}, fmt.Errorf("file %s: %w", f.Name(), err)
	}
	number := -1
	if err := raw.Control(func(fd uintptr) { number = int(fd) }); err != nil {
		return dbus.Variant{}, fmt.Errorf("file %s: %w", f.Name(), err)
	}
	return dbus.MakeVariant(dbus.UnixFD(number)), nil
}
