package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/config/strict"
)

const deviceForms = `an index as 0, "GPU-<uuid>", "MIG-<uuid>" or a PCI bus id as "0000:01:00.0"`

// Forms of device names. Shortened UUIDs, which CUDA would take, are refused: after another GPU
// is put in they may name two.
var (
	uuidForm  = regexp.MustCompile(`^(GPU|MIG)-[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	oldMIG    = regexp.MustCompile(`^MIG-GPU-[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}/[0-9]{1,3}/[0-9]{1,3}$`)
	pciForm   = regexp.MustCompile(`^(?:([0-9a-fA-F]{4}|[0-9a-fA-F]{8}):)?([0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7])$`)
	indexForm = regexp.MustCompile(`^[0-9]{1,4}$`)
)

const maxIndex = 9999

func devicesType() strict.Type[draft] {
	return strict.Type[draft]{Name: "list of devices", Allowed: "[], [0], or [[0], [1]]", Set: func(d *draft, v *strict.Value, at strict.At) {
		if v.Kind != strict.Array {
			at.Wrong(v, "a list such as [], [0], or [[0], [1]] for two replicas", "Put the device in square brackets.")
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

// maskOf reads one mask, and reports what is wrong with it.
func maskOf(v *strict.Value, at strict.At, good *bool) []string {
	mask := make([]string, 0, len(v.Items))
	seen := make(map[string]int, len(v.Items))
	partitions := 0
	for i, item := range v.Items {
		name, ok := device(item)
		if !ok {
			at.Item(i).Wrong(item, deviceForms, "")
			*good = false
			continue
		}
		key := canonical(name)
		if first, twice := seen[key]; twice {
			at.Item(i).Say(item, "is "+item.Describe()+" again", "each device once", fmt.Sprintf("The first is item %d.", first))
			*good = false
		}
		seen[key] = i
		if strings.HasPrefix(name, "MIG-") {
			partitions++
		}
		mask = append(mask, name)
	}
	// CUDA sees one MIG partition per process, and no whole GPU beside it.
	if partitions > 0 && len(mask) > 1 {
		at.Say(v, "holds a MIG partition beside other devices", "one MIG partition alone, or whole GPUs", "Use replicas with one partition each.")
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
		if indexForm.MatchString(s) {
			n, _ := strconv.Atoi(s) // four digits fit
			return strconv.Itoa(n), true
		}
		return s, uuidForm.MatchString(s) || oldMIG.MatchString(s) || pciForm.MatchString(s)
	}
	return "", false
}

// canonical makes the spellings of one name equal: case, and the PCI domain's width.
func canonical(name string) string {
	if m := pciForm.FindStringSubmatch(name); m != nil {
		domain, _ := strconv.ParseUint(m[1], 16, 32) // no domain is domain 0
		return fmt.Sprintf("%08x:%s", domain, strings.ToLower(m[2]))
	}
	return strings.ToLower(name)
}
