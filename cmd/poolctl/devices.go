package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/client"
)

type devicesOptions struct {
	watch     bool
	processes bool
}

func newDevices(a *app) *cobra.Command {
	var o devicesOptions
	cmd := &cobra.Command{
		Use:     "devices",
		Aliases: []string{"gpus"},
		Short:   "Show the GPUs of this host, their health and who uses them",
		Long: `Show the GPUs of this host, their MIG partitions below them, their health, and the pools that use them.

UUID is the shortest beginning that names one GPU here; a pool file accepts it as shown. VRAM is used/total. A dash
is a value that a GPU does not report. For a GPU that is not healthy, a line below has the reason and a hint.`,
		Args: cobra.NoArgs,
		RunE: do(func(ctx context.Context, _ []string) error { return a.runDevices(ctx, o) }),
	}
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "refresh every second, and print again when something changed")
	cmd.Flags().BoolVarP(&o.processes, "processes", "p", false, "show each process that holds memory of a GPU")
	return cmd
}

func (a *app) runDevices(ctx context.Context, o devicesOptions) error {
	c, err := newClient(a.o)
	if err != nil {
		return err
	}
	look := func(ctx context.Context) (frame, error) {
		list, raw, err := got(c.GetDevices(ctx, client.GetDevicesParams{}))
		if err != nil {
			return frame{}, a.instead(err, "Without the manager, nvidia-smi shows the GPUs.")
		}
		return a.frame(raw, withoutReadings(list), func(w io.Writer) error {
			return a.printDevices(w, list, o.processes)
		})
	}
	return a.show(ctx, o.watch, look)
}

// withoutReadings removes the values that change at every sample although nothing happened.
func withoutReadings(list wire.DeviceList) wire.DeviceList {
	list.TakenMS = nil
	if list.Stale != nil {
		list.Stale = &wire.Stale{LastError: list.Stale.LastError, Hint: list.Stale.Hint}
	}
	list.Devices = append([]wire.GPUDevice(nil), list.Devices...)
	for i := range list.Devices {
		d := &list.Devices[i]
		d.UtilizationPercent, d.TemperatureCelsius, d.PowerState, d.PowerMilliwatts = nil, nil, nil, nil
	}
	return list
}

// printDevices prints the table, then the errors, then the driver and the age of the data.
func (a *app) printDevices(w io.Writer, list wire.DeviceList, processes bool) error {
	short := shortUUIDs(list.Devices)
	out := &printer{w: w}
	if len(list.Devices) > 0 {
		out.table(a.deviceTable(list.Devices, short))
		for _, d := range list.Devices {
			if d.LastError != "" {
				out.gap()
				out.line("GPU %d (%s): %s", d.Index, short(d.UUID, d.PCI), d.LastError)
				out.hint(d.Hint)
			}
		}
	}
	if processes {
		out.gap()
		out.processes(list.Devices)
	}
	if text := driverLine(list); text != "" {
		out.gap()
		out.line("%s", text)
		out.hint(list.Driver.Hint)
	}
	if s := list.Stale; s != nil {
		out.gap()
		if s.AgeMS == nil {
			out.line("no data yet: %s", s.LastError)
		} else {
			out.line("the data is %s old: %s", span(time.Duration(*s.AgeMS)*time.Millisecond), s.LastError)
		}
		out.hint(s.Hint)
	}
	return out.err
}

// driverLine describes the driver that the data is from, or why there is none; it is "" where the
// age of the data says it all.
func driverLine(list wire.DeviceList) string {
	d := list.Driver
	var known []string
	for _, part := range []struct{ name, version string }{{"driver", d.Version}, {"CUDA", d.CUDA},
		{"NVML", d.Library}} {
		if part.version != "" {
			known = append(known, part.name+" "+part.version)
		}
	}
	versions := strings.Join(known, ", ")
	switch {
	case d.Problem == "no-library" || d.Problem == "no-driver":
		return "no NVIDIA driver on this host: " + d.LastError
	case d.LastError != "" && versions == "":
		return "the NVIDIA driver reports no data: " + d.LastError
	case d.LastError != "":
		return "the NVIDIA driver (" + versions + ") reports no data: " + d.LastError
	case len(list.Devices) > 0 || list.Stale != nil:
		return versions
	case versions == "":
		return "no data of GPUs yet"
	}
	return "no GPUs: " + versions + " shows none"
}

func (a *app) deviceTable(list []wire.GPUDevice, short func(uuid, pci string) string) *table {
	t := &table{colour: a.colour}
	wide := a.o.output == formatWide
	head := []string{"GPU", "NAME", "UUID", "PCI", "VRAM", "UTIL", "TEMP", "HEALTH", "POOLS"}
	if wide {
		head = []string{"GPU", "NAME", "UUID", "PCI", "MINOR", "COMPUTE", "VRAM", "RESERVED", "UTIL", "TEMP", "POWER",
			"PSTATE", "ECC", "ACTION", "HEALTH", "SINCE", "POOLS"}
	}
	t.row(head...)
	for _, d := range list {
		pools := strings.Join(d.Pools, ",")
		util, temp := figure(d.UtilizationPercent, "%"), figure(d.TemperatureCelsius, " C")
		if wide {
			t.row(strconv.Itoa(d.Index), d.Name, d.UUID, d.PCI, figure(d.Minor, ""), d.ComputeCapability, vram(d.VRAM),
				gib(d.ReservedBytes), util, temp,
				watts(d.PowerMilliwatts), pstate(d.PowerState), ecc(d.ECC), d.RecoveryAction, d.Health,
				ago(a.now(), d.SinceMS), pools)
		} else {
			t.row(strconv.Itoa(d.Index), d.Name, short(d.UUID, d.PCI), shortPCI(d.PCI), vram(d.VRAM), util, temp,
				d.Health, pools)
		}
		for _, p := range d.Partitions {
			place, held := fmt.Sprintf("gi %d ci %d", p.GI, p.CI), orDash(strings.Join(p.Pools, ","))
			if wide {
				t.below("", p.Profile, p.UUID, place, "", "", vram(p.VRAM), gib(p.ReservedBytes), "", "", "", "", "",
					"", "", "", held)
			} else {
				t.below("", p.Profile, short(p.UUID, ""), place, vram(p.VRAM), "", "", "", held)
			}
		}
	}
	return t
}
