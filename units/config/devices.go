package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/config/strict"
	"github.com/pool-managerd/pool-managerd/units/pattern"
)

const deviceForms = `an index as 0, "GPU-<uuid>" or at least four digits of it, "MIG-<uuid>" likewise, or a PCI bus id as "0000:01:00.0"`

// Forms of device names. A shortened UUID is resolved on the host, where it must name one device.
// The full UUID is used after that, so that a GPU that is added later cannot replace it.
var (
	uuidForm  = pattern.Lazy(`^(GPU|MIG)-[0-9a-fA-F]{4}[0-9a-fA-F-]{0,32}$`)
	oldMIG    = pattern.Lazy(`^MIG-(GPU-[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})/[0-9]{1,3}/[0-9]{1,3}$`)
	pciForm   = pattern.Lazy(`^(?:([0-9a-fA-F]{4}|[0-9a-fA-F]{8}):)?([0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7])$`)
	indexForm = pattern.Lazy(`^[0-9]{1,4}$`)
)

// uuidDashes are where a UUID has its dashes; its length is 36 (RFC 9562, section 4).
const uuidDashes = "........-....-....-....-............"

// uuidLike reports whether s is "GPU-" or "MIG-" and a UUID or the beginning of one.
func uuidLike(s string) bool {
	if !uuidForm().MatchString(s) {
		return false
	}
	for i, c := range s[len("GPU-"):] {
		if (c == '-') != (uuidDashes[i] == '-') {
			return false
		}
	}
	return true
}

const maxIndex = 9999

func devicesType() strict.Type[draft] {
	return strict.Type[draft]{Name: "list of devices", Allowed: "[], [0], or [[0], [1]]",
		Set: func(d *draft, v *strict.Value, at strict.At) {
			if v.Kind != strict.Array {
				at.Wrong(v, "a list such as [], [0], or [[0], [1]] for two replicas",
					"Put the device in square brackets.")
				return
			}
			lists := 0
			for _, item := range v.Items {
				if item.Kind == strict.Array {
					lists++
				}
			}
			good := true
			switch {
			case lists == 0:
				d.masks = [][]string{maskOf(v, at, &good)}
			case lists < len(v.Items):
				at.Say(v, "mixes devices and lists", "[0, 1] for one replica, or [[0], [1]] for two", "")
				return
			default:
				d.nested = true
				for i, item := range v.Items {
					d.masks = append(d.masks, maskOf(item, at.Item(i), &good))
				}
			}
			d.devices = good
		}}
}

// maskOf reads one mask, and reports its problems.
func maskOf(v *strict.Value, at strict.At, good *bool) []string {
	mask := make([]string, 0, len(v.Items))
	places := make([]int, 0, len(v.Items)) // of the good ones in the list
	partitions := 0
	for i, item := range v.Items {
		name, ok := device(item)
		if !ok {
			at.Item(i).Wrong(item, deviceForms, "")
			*good = false
			continue
		}
		if first := slices.IndexFunc(mask, func(other string) bool { return sameDevice(name, other) }); first >= 0 {
			at.Item(i).Say(item, "is "+item.Describe()+", the device of item "+strconv.Itoa(places[first]),
				"each device once", "")
			*good = false
		}
		if strings.HasPrefix(name, "MIG-") {
			partitions++
		}
		mask, places = append(mask, name), append(places, i)
	}
	// CUDA sees one MIG partition per process, and no whole GPU beside it.
	if partitions > 0 && len(mask) > 1 {
		at.Say(v, "has a MIG partition beside other devices", "one MIG partition alone, or whole GPUs",
			"Use replicas with one partition each.")
		*good = false
	}
	return mask
}

// device returns the name of a device as pool.Pool carries it.
func device(v *strict.Value) (string, bool) {
	switch v.Kind {
	case strict.Integer:
		return strconv.FormatInt(v.Int, 10), v.Int >= 0 && v.Int <= maxIndex
	case strict.String:
		s := v.Str
		if indexForm().MatchString(s) {
			n, _ := strconv.Atoi(s) // four digits fit
			return strconv.Itoa(n), true
		}
		return s, uuidLike(s) || oldMIG().MatchString(s) || pciForm().MatchString(s)
	}
	return "", false
}

// canonical makes the spellings of one name equal: case, and the PCI domain's width.
func canonical(name string) string {
	if m := pciForm().FindStringSubmatch(name); m != nil {
		domain, _ := strconv.ParseUint(m[1], 16, 32) // no domain is domain 0
		return fmt.Sprintf("%08x:%s", domain, strings.ToLower(m[2]))
	}
	return strings.ToLower(name)
}

// sameDevice reports whether two names are of one device on every host. If one shortened UUID
// begins with the other, the shorter one names the same device or is ambiguous. An index and a UUID
// may still be one device on this host.
func sameDevice(a, b string) bool {
	first, second := canonical(a), canonical(b)
	if first == second {
		return true
	}
	return uuidLike(a) && uuidLike(b) && (strings.HasPrefix(first, second) || strings.HasPrefix(second, first))
}

// overlapping reports whether two names are of one GPU: one device, or a partition in the older
// form and its whole GPU.
func overlapping(a, b string) bool {
	if sameDevice(a, b) {
		return true
	}
	parent := func(name string) string {
		if m := oldMIG().FindStringSubmatch(name); m != nil {
			return m[1]
		}
		return name
	}
	return oldMIG().MatchString(a) != oldMIG().MatchString(b) && sameDevice(parent(a), parent(b))
}
