package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

func (a *app) printFleetPools(w io.Writer, list wire.FleetPools) error {
	if a.o.output == formatName {
		for _, p := range list.Pools {
			if _, err := fmt.Fprintln(w, clean(p.Node+"/"+p.ID)); err != nil {
				return err
			}
		}
		return nil
	}
	out := &printer{w: w}
	if len(list.Pools) == 0 {
		out.line("No pools, on %s.", counted(len(list.Hosts), "host"))
	} else {
		out.table(a.fleetPoolTable(list.Pools))
	}
	out.troubles(list)
	return out.err
}

func (a *app) fleetPoolTable(pools []wire.FleetPool) *table {
	t := &table{colour: a.colour}
	wide := a.o.output == formatWide
	head := []string{"NODE", "POOL", "STATE", "READY", "SLOTS", "ENGINE", "MODEL", "ERROR"}
	if wide {
		head = []string{"NODE", "POOL", "STATE", "READY", "SLOTS", "LEASES", "RESTARTS", "ENGINE", "VERSION", "DEVICES",
			"ADDRESS", "MODEL", "ERROR"}
	}
	t.row(head...)
	for _, p := range pools {
		free := slots(p.SlotsFree, p.SlotsTotal)
		if wide {
			t.row(p.Node, p.ID, p.State, fleetReady(p), free, strconv.Itoa(p.ActiveLeases),
				strconv.Itoa(p.RestartCount), p.Engine, p.EngineVersion,
				strings.Join(p.DeviceMask, ","), p.Address, p.ModelID, p.LastError)
			continue
		}
		t.row(p.Node, p.ID, p.State, fleetReady(p), free, p.Engine, base(&p.ModelID), code(&p.LastError))
	}
	return t
}

// fleetReady is yes or no, with counts where there is more than one replica.
func fleetReady(p wire.FleetPool) string {
	if n := len(p.Replicas); n > 1 {
		ready := 0
		for _, r := range p.Replicas {
			if r.Ready {
				ready++
			}
		}
		return fmt.Sprintf("%s (%d of %d)", yesNo(p.Ready), ready, n)
	}
	return yesNo(p.Ready)
}

func (a *app) printFleetHosts(w io.Writer, list wire.FleetPools) error {
	if a.o.output == formatName {
		for _, h := range list.Hosts {
			if _, err := fmt.Fprintln(w, clean(h.Name)); err != nil {
				return err
			}
		}
		return nil
	}
	out := &printer{w: w}
	if len(list.Hosts) == 0 {
		out.line("No hosts are published below %s.", list.Prefix)
	} else {
		out.table(a.fleetHostTable(list))
	}
	out.troubles(list)
	return out.err
}

func (a *app) fleetHostTable(list wire.FleetPools) *table {
	t := &table{colour: a.colour}
	wide := a.o.output == formatWide
	head := []string{"NODE", "POOLS", "SLOTS", "GPUS", "ADDRESS"}
	if wide {
		head = append(head, "VERSION", "DRIVER", "CPUS", "RAM", "TTL", "STARTED", "MACHINE-ID")
	}
	t.row(head...)
	for _, h := range list.Hosts {
		pools, ready, free, total := 0, 0, 0, 0
		for _, p := range list.Pools {
			if p.MachineID != h.MachineID {
				continue
			}
			pools++
			if p.Ready && !p.Draining {
				ready, free, total = ready+1, free+p.SlotsFree, total+p.SlotsTotal
			}
		}
		cells := []string{h.Name, fmt.Sprintf("%d/%d", ready, pools), slots(free, total), gpuNames(h.GPUs), h.Address}
		if wide {
			cells = append(cells, h.Version, h.Driver, strconv.Itoa(h.CPUs), gib(&h.RAMBytes),
				strconv.FormatFloat(h.TTL, 'f', -1, 64)+"s", h.Started, h.MachineID)
		}
		t.row(cells...)
	}
	return t
}

// gpuNames are the GPUs of a host, each name once: "2x H100, L4".
func gpuNames(gpus []wire.FleetGPU) string {
	var names []string
	count := map[string]int{}
	for _, g := range gpus {
		if !slices.Contains(names, g.Name) {
			names = append(names, g.Name)
		}
		count[g.Name]++
	}
	for i, name := range names {
		if n := count[name]; n > 1 {
			names[i] = fmt.Sprintf("%dx %s", n, name)
		}
	}
	return strings.Join(names, ", ")
}

// troubles prints what is wrong with the fleet, each with what to do.
func (p *printer) troubles(list wire.FleetPools) {
	for _, c := range list.Conflicts {
		p.gap()
		p.line("%s is not published: it has the machine-id of %s, %s", orDash(c.Name), orDash(c.Published), c.MachineID)
		p.hint("Was one of them cloned? On one of the two: rm /etc/machine-id /var/lib/dbus/machine-id; " +
			"systemd-machine-id-setup; reboot.")
	}
	if list.Skipped > 0 {
		p.gap()
		p.line("%s in etcd cannot be read by this version", counted(list.Skipped, "key"))
		p.hint("Are there hosts of a newer version? Upgrade this one.")
	}
	if list.Truncated {
		p.gap()
		p.line("the fleet is larger than a host keeps: some of it is missing here")
		p.hint("Read etcd itself: etcdctl get --prefix " + list.Prefix + "/")
	}
}
